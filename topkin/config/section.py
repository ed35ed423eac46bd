"""What every section of the configuration is, and types that several have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Sql = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A frozen table of the configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RejectsSettings(Section):
    """What is kept of rejected rows."""

    record: bool = Field(
        True,
        description="Keep the columns of a rejected row as they were read; else file, row and reason alone.",
    )
