"""A model's profile: what one engine of it costs in time and can hold, from a preset or from a ConfigMap's data."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from bes_api.quantities import DecimalString, WholeNumber
from bes_api.scenario import Frozen, LatencyProfile, PositiveInt


def _positive(number: Decimal) -> Decimal:
    if number <= 0:
        raise ValueError(f"{number} is out of range: a time must be above 0")
    return number


def _not_negative(number: Decimal) -> Decimal:
    if number < 0:
        raise ValueError(f"{number} is out of range: a time must be at least 0")
    return number


Positive = Annotated[DecimalString, AfterValidator(_positive)]
NotNegative = Annotated[DecimalString, AfterValidator(_not_negative)]


class ModelProfile(Frozen):
    """One model on one GPU class: the latency formula's constants and the limits of its engine's memory."""

    latency: LatencyProfile
    kv_cache_tokens: PositiveInt
    max_batch_size: PositiveInt
    source: str
    """Where the figures come from, in words."""


class ProfileData(BaseModel):
    """``data`` of a profile's ConfigMap: every value a string; milliseconds and tokens as the keys say."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    prefill_base_ms: Positive
    prefill_per_token_ms: NotNegative
    decode_base_ms: Positive
    decode_per_sequence_ms: NotNegative
    decode_per_context_token_ms: NotNegative
    kv_cache_tokens: WholeNumber
    max_batch_size: WholeNumber
    source: str = "a ConfigMap that does not say its source"

    def profile(self) -> ModelProfile:
        """The same figures as numbers."""
        return ModelProfile(
            latency=LatencyProfile(
                prefill_base_ms=float(self.prefill_base_ms),
                prefill_per_token_ms=float(self.prefill_per_token_ms),
                decode_base_ms=float(self.decode_base_ms),
                decode_per_sequence_ms=float(self.decode_per_sequence_ms),
                decode_per_context_token_ms=float(self.decode_per_context_token_ms),
            ),
            kv_cache_tokens=int(self.kv_cache_tokens),
            max_batch_size=int(self.max_batch_size),
            source=self.source,
        )


Profiles = Mapping[str, ModelProfile]
"""Profiles by the name of the ConfigMap that holds them."""
