"""What every section of the configuration is, and types that several have."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from topkin.baselines.registry import BASELINES

Count = Annotated[int, Field(ge=1)]
Sql = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[float, Field(gt=0, le=36_500)]  # a calendar ends: dates this far from any as-of date exist
if TYPE_CHECKING:
    Baseline = str
    ListModel = str
else:  # the names are those of the registry, whatever it holds
    Baseline = Literal[tuple(BASELINES)]
    ListModel = Literal[("encoder", *BASELINES)]


class Section(BaseModel):
    """A frozen table of the configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RejectsSettings(Section):
    """What is kept of rejected rows."""

    record: bool = Field(
        True,
        description="Keep the columns of a rejected row as they were read; else file, row and reason alone.",
    )
