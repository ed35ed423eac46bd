"""What every section of the configuration is, and types that several have."""

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from topkin.baselines.registry import BASELINES

Count = Annotated[int, Field(ge=1)]
Parts = Count | Literal["auto"]
LEAST_PARTS = 8
ROWS_A_PART = 1_000_000
Sql = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[float, Field(gt=0, le=36_500)]  # a calendar ends: dates this far from any as-of date exist
if TYPE_CHECKING:
    Baseline = str
    ListModel = str
else:  # the names are those of the registry, whatever it holds
    Baseline = Literal[tuple(BASELINES)]
    ListModel = Literal[("encoder", *BASELINES)]


def parts_for(rows: int) -> int:
    """``run.parts`` that ``auto`` means: 8, doubled until none has more than a million of so many rows on average.

    By the data alone, so that the same rows have the same parts whatever works on them, and growing ones rarely others.
    """
    parts = LEAST_PARTS
    while parts * ROWS_A_PART < rows:
        parts *= 2
    return parts


def _webhook(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not re.fullmatch(r"https?://[^\s/]+\S*|[A-Za-z_]\w*|\*+", text):  # a stored one is stars
        raise ValueError(
            "run.webhook must be an address that begins with http:// or https://, or the name of an environment "
            "variable that holds one; what came is not shown, for it may be secret"
        )
    return value


Hook = Annotated[SecretStr, AfterValidator(_webhook)]


class Section(BaseModel):
    """A frozen table of the configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    may_be_empty: ClassVar[tuple[str, ...]] = ()
    """Keys whose text may be empty: all others name something."""

    @field_validator("*")
    @classmethod
    def _no_empty_text(cls, value: Any, info: ValidationInfo) -> Any:
        stored = info.field_name == "path" and info.mode == "python"  # of a run without purchases
        if value == "" and not stored and info.field_name not in cls.may_be_empty:
            raise PydanticCustomError("string_too_short", "a text must not be empty")
        return value


class RejectsSettings(Section):
    """What is kept of rejected rows."""

    record: bool = Field(
        True,
        description="Keep the columns of a rejected row as they were read; else file, row and reason alone.",
    )


class RejectLimits(Section):
    """How many rows may be rejected, and what asking the rules may take."""

    rule_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="Seconds that one expression of rules or normalise may take over one batch of rows."
    )
    rule_memory: Annotated[float, Field(gt=0)] = Field(
        2, description="Gigabytes that one expression of rules or normalise may take beside the rows."
    )

    max_reject_share: Share = Field(
        0.2,
        description="Share of an input's rows that may be rejected for reasons of topkin's own, such as times that "
        "cannot be read; with more of them check finds fault and the run ends here. With rules of yours and purchases "
        "without a user half of the rows may go, or this share if it is more.",
    )
    max_reject_share_by_reason: dict[str, Share] = Field(
        default_factory=dict,
        description="Reason to the share of rows that may be rejected for it, by which alone it is judged: 1 for a "
        "rule that is meant to take most rows away.",
    )
