"""The section ``[train]`` of an items run: an encoder learned from labels, from pairs, or from the items alone."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from topkin.config.metric_parts import LEARNERS, PartSettings, faults, leaves, named, part_of
from topkin.config.section import Count, Section, Sql


class PairsSettings(Section):
    """The pairs of `method = "pairs"`: a table of them, or purchases of which they are made."""

    path: str = Field(description="A Parquet file, a folder of them, or a glob: of pairs, or of purchases.")
    first: Sql = Field("first", description="Column with an item; read where there is a column `second`.")
    second: Sql = Field("second", description="Column with an item that is like the first.")
    made_by: Literal["basket", "user", "after"] | None = Field(
        None,
        description="Makes pairs of purchases: items of one basket; of one user within `days`; or an item and one that "
        "its buyer bought after it, within `days`. Without it the table holds pairs.",
    )
    user_id: Sql = Field("user_id", description="Column of the purchases with the user.")
    item_id: Sql = Field("item_id", description="Column of the purchases with the item.")
    timestamp: Sql = Field("timestamp", description="Column of the purchases with the time.")
    basket: Sql = Field("basket", description="Column of the purchases with the basket or order.")
    days: Annotated[float, Field(gt=0, le=36_500)] = Field(30, description="Most days between a pair's purchases.")
    min_count: Count = Field(1, description="How often a pair must come.")


class ItemsTrainSettings(Section):
    """The training of an encoder of items, see docs/metric_learning.md. The defaults need no editing."""

    method: Literal["labels", "pairs", "self_supervised"] = Field(
        description="What is alike: items of one label (`items.label`), the two of each pair ([train.pairs]), or two "
        "versions of one item, which takes no labels."
    )
    loss: PartSettings | None = Field(
        None,
        description="A loss of the library, by its name or as { name = …, ARGUMENT = … }. Without it am_softmax with "
        "margin 0.2 and scale 20 for labels, info_nce for pairs.",
    )
    miner: PartSettings | None = Field(None, description="Which pairs or triplets of a batch the loss learns from.")
    distance: PartSettings | None = Field(None, description="How the loss compares vectors; its own without it.")
    sampler: PartSettings | None = Field(
        None,
        description="How batches are drawn for labels: row_batches, class_batches (so many classes, so many examples "
        "of each) or pair_batches. It follows from the loss.",
    )
    learner: PartSettings | None = Field(
        None, description="Of `self_supervised`: simclr (the default), barlow_twins, byol, sim_siam, swav or vicreg."
    )
    pairs: PairsSettings | None = Field(None, description="See [train.pairs].")
    dim: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Coordinates of a vector; 64, without labels 256, or those of the model that it starts from."
    )
    epochs: Count | None = Field(None, description="Most passes over the items; 20, without labels 8.")
    batch_size: Annotated[int, Field(ge=4)] | None = Field(
        None, description="Rows of a step, for pairs the pairs; 128, without labels 256."
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.002,
        description="AdamW's largest step size, which rises to it and falls to 0 on a cosine; lower it for a model "
        "that is trained already.",
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="AdamW's; 0.02, without labels 0.0001."
    )
    augment: list[Literal["flip", "shift", "affine", "contrast", "erase"]] | None = Field(
        None,
        description="How images are changed at random in training: flip, shift and erase, without labels flip, affine, "
        "contrast and erase. Leave flip out where left and right differ, as in digits.",
    )
    mirror: bool = Field(
        True,
        description="Serve the mean of an image's vector and its mirror image's, where flip is among augment: nearer "
        "to its kind, in twice the time. Not without labels, nor of a model that was given.",
    )
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05,
        description="Share of the items, or of the pairs, kept out to validate each epoch, 1,000 at most; 0 for none.",
    )
    patience: Count = Field(
        8,
        description="Epochs below the best validation by more than a standard error, or at its end, before training "
        "stops; late ones gain most, for the step size falls to the end.",
    )
    memory: Annotated[float, Field(gt=0)] = Field(
        4, description="Gigabytes of decoded columns held in memory; what is more lies in the scratch folder."
    )

    @model_validator(mode="after")
    def _parts(self) -> "ItemsTrainSettings":
        problems = list(self._part_faults())
        if not problems:
            problems = list(self._misfits())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _part_faults(self) -> Iterator[str]:
        for key in ("loss", "miner", "distance", "sampler", "learner"):
            part = getattr(self, key)
            if part is not None:
                yield from faults(f"train.{key}", key, part)

    def _misfits(self) -> Iterator[str]:
        """Keys that do not go together."""
        method = self.method
        if method == "self_supervised":
            for key in ("loss", "miner", "distance", "sampler", "pairs"):
                if getattr(self, key) is not None:
                    yield (
                        f"train.{key} has no meaning for method 'self_supervised': leave it out; train.learner is one "
                        f"of {', '.join(LEARNERS)}"
                    )
            return
        if self.learner is not None:
            yield f"train.learner is for method 'self_supervised', got method {method!r}: name a train.loss instead"
        if (self.pairs is None) != (method == "labels"):
            yield (
                "method 'pairs' needs a section [train.pairs] with the path of a table of pairs or of purchases"
                if method == "pairs"
                else "[train.pairs] is for method 'pairs', got method 'labels': leave it out"
            )
        if method == "pairs" and self.sampler is not None and part_of("sampler", self.sampler).cls != "PairBatches":
            yield f"train.sampler must be pair_batches for method 'pairs', got {self.sampler.name!r}: leave it out"
        yield from self._loss_misfits()

    def _loss_misfits(self) -> Iterator[str]:
        loss = self.chosen_loss
        reads: set[str] = {part.reads for part in leaves(loss)}
        if not reads:
            inner = part_of("loss", loss).arguments[0]
            yield f"train.loss {loss.name!r} needs {inner}, as in {{ name = {loss.name!r}, {inner} = … }}"
            return
        if len(reads) > 1:
            yield f"losses of one sum must read the same, {loss.name} has some that read {' and '.join(sorted(reads))}"
        if self.method == "pairs" and "classes" in reads:
            yield f"train.loss {loss.name!r} needs classes, method 'pairs' has none: take info_nce or nt_xent"
        yield from self._sampler_misfits(loss.name, reads)
        for key in ("miner", "distance"):
            if getattr(self, key) is None:
                continue
            if key in loss.arguments:
                yield f"train.{key} and train.loss.{key} say the same: leave one out"
            elif key not in part_of("loss", loss).arguments and not (key == "distance" and reads == {"pairs"}):
                yield f"train.loss {loss.name!r} takes no {key}: leave train.{key} out, or take another loss"

    def _sampler_misfits(self, loss: str, reads: set[str]) -> Iterator[str]:
        if self.sampler is None or self.method == "pairs":
            return
        pairs = part_of("sampler", self.sampler).cls == "PairBatches"
        if pairs != (reads == {"pairs"}):
            rule = "only pair_batches feed" if reads == {"pairs"} else "pair_batches do not feed"
            yield f"train.sampler: {rule} loss {loss!r}, got {self.sampler.name!r}: leave the sampler out"
        elif reads == {"views"} and part_of("sampler", self.sampler).cls != "ClassBatches":
            yield f"train.sampler: loss {loss!r} reads two rows of a class at a time, so it needs class_batches"

    @property
    def chosen_loss(self) -> PartSettings:
        """``loss``, or the one that stands for none."""
        if self.loss is not None:
            return self.loss
        if self.method == "pairs":
            return PartSettings(name="info_nce")
        return PartSettings.model_validate({"name": "am_softmax", "margin": 0.2, "scale": 20.0})

    @property
    def chosen_learner(self) -> str:
        """The name of the learner, ``simclr`` where none is named."""
        return "simclr" if self.learner is None else named(self.learner.name, LEARNERS) or self.learner.name
