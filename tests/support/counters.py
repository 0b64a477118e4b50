"""Counters that begin where they would count for long to get to."""


async def set_counters(ctx, bank, values):
    """Let counters of a bank, none of which is given an increment meanwhile, have ``values``."""
    await ctx.tick().repeat(2 * len(bank.counts) + 2)  # the RAM's sums are taken for 0 until then
    for _ in range(6):  # visits under way write what was there
        for at, (name, count) in enumerate(bank.counts.items()):
            if name in values:
                ctx.set(count, values[name] % (1 << len(count)))
                for half in range(2):
                    ctx.set(bank.ram.data[at + (half << bank.number_bits)],
                            values[name] >> half * bank.width & (1 << bank.width) - 1)
        await ctx.tick()
