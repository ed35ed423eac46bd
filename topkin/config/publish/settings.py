"""The gates of ``[publish]``: what every kind of run has, and what only one has. A gate that is false is not asked."""

from typing import Annotated, Literal

from pydantic import Field

from topkin.config.section import Baseline, Count, Section

Off = Literal[False]
Part = Annotated[float, Field(ge=0, le=1, strict=True)]
Ratio = Annotated[float, Field(ge=0, strict=True)]


class VersionGates(Section):
    """Gates of a run of any kind: against the live version, and against sense."""

    max_drop: Part | Off = Field(
        0.2,
        description="Share by which rows read, users, items, purchases a day (of the last 28 days), users ranked by "
        "the model, available items and filled columns of the catalogue may be fewer than in the live version.",
    )
    max_growth: Ratio | Off = Field(
        1.0, description="Share by which rows read, users, items and purchases a day may be more; 1 is twice as many."
    )
    max_rejected: Part | Off = Field(
        0.05, description="Share of an input's rows by which the rejects for a reason may be above the live version's."
    )
    max_unknown: Part | Off = Field(
        0.3, description="Share of the users, and of the items, that the live version may not know."
    )
    max_not_finite: Part | Off = Field(
        0.001, description="Share of the vectors that may hold a number that is not finite."
    )
    min_spread: Part | Off = Field(
        0.5,
        description="Share of the live version's effective rank (the exponential of the entropy of the directions' "
        "weights) that the vectors must have; in no version may all vectors be one.",
    )
    same_dim: bool = Field(
        True,
        description="Whether vectors must have as many coordinates as the live version's, where they are made of the "
        "same blocks.",
    )
    min_recall: Part | Off = Field(
        0.9,
        description="Share of exact search's 10 best that the index must find, mean over the queries; refused where "
        "the whole 95 % interval lies below.",
    )


class PublishSettings(VersionGates):
    """The gates before the pointer moves; one that is false is not asked. Where nothing is live, those that compare
    with the live version are not asked.
    """

    min_users: Count = Field(1, description="Users that must have a list.")
    max_age: Ratio | Off = Field(
        7.0, description="Days from the last purchase to the as-of date, at most; a first version is told only."
    )
    min_by_model: Part | Off = Field(
        0.8,
        description="Share of the users with recommend.min_history purchases whom the model must rank for, so that few "
        "get the popular items instead.",
    )
    min_available: Part | Off = Field(0.01, description="Share of the catalogue that must be available.")
    max_short: Part | Off = Field(
        0.1, description="Share of the users by which short lists may be more than in the live version."
    )
    min_overlap: Part | Off = Field(
        0.2,
        description="Share of the live lists that the new ones must keep, mean over the same users: of items (overlap "
        "at k), and by rank (rank-biased overlap).",
    )
    max_alike: Part | Off = Field(
        0.3, description="By how much more the lists of two users may overlap than in the live version, at most."
    )
    max_lost: Part | Off = Field(
        0.2,
        description="Share of the purchases known to the live version that may be gone or have another user, item or "
        "time, of those that are not older than the first one now.",
    )
    max_concentration: Part | Off = Field(
        0.1,
        description="Share of all purchases by which the largest user's, item's or day's may be above the live "
        "version's.",
    )
    max_group_drop: Part | Off = Field(
        0.5,
        description="Share by which the purchases of a category may be fewer than in the live version, where they were "
        "a fiftieth of all or more.",
    )
    max_price_change: Annotated[float, Field(ge=1, strict=True)] | Off = Field(
        3.0, description="Factor by which the middle price of the catalogue may be above or below the live version's."
    )
    metric: str = Field(
        "ndcg@10",
        description="Metric by which the model is compared with baselines: on all items where bought ones may be "
        "listed, else on novel ones.",
    )
    must_beat: tuple[Baseline, ...] = Field(
        ("popularity",),
        description="Baselines that the model must beat, where 10 users or more have held-out purchases; one that is "
        "the model itself is passed over.",
    )
    max_behind: Part | Off = Field(
        0.3,
        description="Share by which the model may be below the best baseline that was measured; refused where the "
        "whole 95 % interval of the difference lies further below.",
    )


class ReportSettings(Section):
    """The page of a run over purchases."""

    image: str | None = Field(
        None,
        description="Column of the items' files with a picture of each, for the page alone: the bytes of a PNG, JPEG, "
        "GIF, BMP or WebP file, a data: address that holds one, or the path of one, which begins in the "
        "folder of the Parquet file unless it is whole. Addresses on the web are not loaded.",
    )


class ItemsPublishSettings(VersionGates):
    """The gates before the pointer moves; one that is false is not asked."""

    min_items: Count = Field(1, description="Items that must be in the index.")
    min_embedded: Part | Off = Field(0.8, description="Share of the prepared items that the encoder must take.")
    min_label_recall: Part | None = Field(
        None, description="Recall@1 that the queries must reach, where items have labels; without it none."
    )
