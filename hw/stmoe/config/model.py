"""Shape of a Mixture-of-Experts model, as far as its experts and their routing go."""

from dataclasses import dataclass

from .error import ConfigError, check_multiple, check_range

__all__ = ["MAX_ACTIVE", "ModelShape"]

MAX_ACTIVE = 255  # experts of a token and layer, shared units included: counts have 8 bits


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What the accelerator must know of a model.

    Parameters
    ----------
    layers: MoE layers, 1 to 256.
    experts: routed experts per layer, 2 to 512.
    top_k: experts routed per token, 1 to 16 and at most ``experts``.
    d_model, d_ff: width of the model and of one expert's hidden layer, 8 to 16384.
    shared_experts: always-active experts per layer, 0 to 8.
    shared_d_ff: hidden width of each shared expert, a multiple of ``d_ff``; 0 without any. At most
        255 experts are active per token, shared ones counted in units of ``d_ff``.
    weight_bits: bits of an expert weight; 8.
    name: free text.
    """

    layers: int
    experts: int
    top_k: int
    d_model: int
    d_ff: int
    shared_experts: int = 0
    shared_d_ff: int = 0
    weight_bits: int = 8
    name: str = "custom"

    def __post_init__(self) -> None:
        check_range("model.layers", self.layers, 1, 256)
        check_range("model.experts", self.experts, 2, 512)
        check_range("model.top_k", self.top_k, 1, min(16, self.experts))
        check_range("model.d_model", self.d_model, 8, 16384)
        check_range("model.d_ff", self.d_ff, 8, 16384)
        check_range("model.shared_experts", self.shared_experts, 0, 8)
        check_range("model.shared_d_ff", self.shared_d_ff, 0, 65536)
        check_range("model.weight_bits", self.weight_bits, 8, 8)
        if bool(self.shared_experts) != bool(self.shared_d_ff):
            raise ConfigError("model.shared_d_ff", self.shared_d_ff,
                              "positive with shared experts and 0 without")
        check_multiple("model.shared_d_ff", self.shared_d_ff, self.d_ff, "model.d_ff")
        if self.active > MAX_ACTIVE:
            raise ConfigError("model.shared_d_ff", self.shared_d_ff,
                              f"so small that top_k and shared units of d_ff = {self.d_ff} are at "
                              f"most {MAX_ACTIVE} (they are {self.active})")

    @property
    def shared_units(self) -> int:
        """Shared experts as experts of ``d_ff``: SwiGLU splits along its hidden width."""
        return self.shared_experts * self.shared_d_ff // self.d_ff

    @property
    def expert_ids(self) -> int:
        """Expert ids of a layer, shared units included."""
        return self.experts + self.shared_units

    @property
    def active(self) -> int:
        """Experts that one token uses per layer, shared units included."""
        return self.top_k + self.shared_units
