"""Host software of a board: transport, link, device, bring-up."""
