"""A model that finds alike things: an encoder, how it is trained, and an index of what it has seen."""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from topkin.artifacts import manifest, storage
from topkin.config.sections import IndexSettings
from topkin.errors import ArtifactError
from topkin.linalg.cosine import unit_rows
from topkin.metrics.labels import values_of
from topkin.metrics.retrieval import codes_of, knn_accuracy, retrieval_metrics
from topkin.models.metric_learning.losses.base import Loss
from topkin.models.metric_learning.named import part, sampler_of
from topkin.models.metric_learning.samplers.in_memory import Batches, Renumbered
from topkin.models.ops.encoders import Inputs, embedding_dim, fingerprint, fitting, input_of
from topkin.models.similarity import stored
from topkin.models.similarity.calibration import Calibration, calibrate, match_metrics
from topkin.models.similarity.index import GrowingIndex, Growth, Key, Labels
from topkin.models.similarity.saved import read_encoder, saved_encoder
from topkin.models.similarity.stored import arrays_of

FORMAT = 3
STATE = "similarity.json"
CURVE = "calibration.parquet"
DATA = "data.parquet"


class Neighbour(NamedTuple):
    """An indexed item beside a query.

    Attributes:
        rank: from 1.
        id: as indexed.
        label: as indexed.
        score: the cosine, -1 to 1.
        data: as indexed, None where none was.

    Examples:
        >>> from topkin.models import Neighbour
        >>> Neighbour(rank=1, id="sku-7", label="cup", score=0.93).label
        'cup'
    """

    rank: int
    id: Key
    label: Key | None
    score: float
    data: np.ndarray | None = None

    def __repr__(self) -> str:
        shown = "" if self.data is None else f", data={self.data.dtype} {self.data.shape}"
        return f"Neighbour(rank={self.rank}, id={self.id!r}, label={self.label!r}, score={self.score!r}{shown})"


class SimilarityModel:
    """A model that finds alike things: an encoder, how it is trained, an index, and a decision.

    Items may be added and removed at any time, of classes never trained on too. An encoder whose weights changed since,
    by whatever call, makes the index stale: :meth:`reset_index`, then index again.

    Args:
        encoder: a built Keras model, inputs to (n, dim); its output is made unit rows wherever it is compared
            outside the loss. Or its inputs, with ``outputs`` beside them.
        outputs: of the encoder, where ``encoder`` are its inputs: as for ``keras.Model(inputs, outputs)``.
        settings: of the index's graph.
        growth: when the graph is built anew.
        seed: of the graph.

    Raises:
        ValueError: the encoder is not built, or has another output.

    Examples:
        >>> from topkin.models import MetricEmbedding, SimilarityModel, losses
        >>> rows, labels = np.eye(4)[[0, 0, 1, 1, 2, 2]], np.array(["cup", "cup", "pan", "pan", "pot", "pot"])
        >>> inputs = keras.Input((4,))
        >>> model = SimilarityModel(inputs, MetricEmbedding(3, seed=1)(inputs))
        >>> model.compile("adam", loss=losses.MultiSimilarity())
        >>> history = model.fit(rows, labels, verbose=0)
        >>> ids = model.index(rows, labels)
        >>> [neighbour.label for neighbour in model.single_lookup(rows[2], k=2)]
        ['pan', 'pan']
    """

    def __init__(
        self,
        encoder: keras.Model | Any,
        outputs: object = None,
        *,
        settings: IndexSettings | None = None,
        growth: Growth | None = None,
        seed: int = 0,
    ) -> None:
        if outputs is not None:
            encoder = keras.Model(encoder, outputs)
        elif not isinstance(encoder, keras.Model):
            raise ValueError(
                f"a model is of an encoder, or of inputs and outputs, got {type(encoder).__name__} alone: give "
                "SimilarityModel(inputs, outputs)"
            )
        self.encoder, self.dim, self.seed = encoder, embedding_dim(encoder), seed
        self.settings, self.growth = settings or IndexSettings(), growth or Growth()
        self.calibration: Calibration | None = None
        self.classes: list[Key] = []
        self._compiled: dict[str, Any] | None = None
        self._training: keras.Model | None = None
        self._index: GrowingIndex | None = None
        self._data: dict[Key, np.ndarray] = {}

    def __repr__(self) -> str:
        held = "nothing indexed" if self._index is None else f"{len(self._index):,} items"
        return f"SimilarityModel({self.encoder.name!r}, {self.dim} dimensions, {held})"

    def summary(self, **settings: object) -> None:
        """Print the encoder's layers, as ``keras.Model.summary``."""
        self.encoder.summary(**settings)

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        loss: keras.losses.Loss | str | None = None,
        **settings: object,
    ) -> None:
        """Say how to train. loss: a metric loss of ``topkin.models`` or its name, as in ``[train]``; its head is put on
        the encoder by itself. Or any Keras loss of labels and embeddings. Others as ``keras.Model.compile``."""
        if loss is None:
            raise ValueError("compile needs a loss, got None: such as loss=MultiSimilarity()")
        loss = _loss_of(loss) if isinstance(loss, str) else loss
        self._compiled, self._training = {"optimizer": optimizer, "loss": loss, **settings}, None

    def fit(
        self,
        x: Inputs,
        y: Labels | None = None,
        *,
        classes: int | None = None,
        sampler: str | dict[str, Any] | None = None,
        **settings: Any,
    ) -> keras.callbacks.History:
        """Train the encoder, and return Keras' history.

        x: inputs with labels ``y`` (n,) of int, str or bytes; or a sampler or dataset of (inputs, labels from 0).
        A sampler of this library takes labels of any type too; each keeps the number that an earlier call gave it.
        classes: how many labels a loss with weights of its own has room for; counted where ``y`` or a sampler of this
        library is given. sampler: how batches are drawn of an array ``x``, by a name of ``[train] sampler``, or
        {"name": …, its arguments}; shuffled rows where None. Others as ``keras.Model.fit``. The history's ``skipped``
        counts an epoch's batches that taught nothing, such as a last one of one class. Raises RuntimeError before
        :meth:`compile`; ValueError for labels of one class, lengths that differ, sample weights that are not finite or
        below 0, or labels to number where a loss's weights are of numbers that were taken as they are.
        """
        if self._compiled is None:
            raise RuntimeError("fit needs a compiled model: call compile(loss=…) first")
        if y is None and (sampler is not None or hasattr(x, "shape") or isinstance(x, list | tuple | dict)):
            raise ValueError("fit needs labels beside inputs, got none: fit(x, y), or a sampler or dataset of both")
        loss, numbered = self._compiled["loss"], y is not None
        if y is not None:
            x, rows = fitting(self.encoder, x)
            named = values_of(y)
            _check_training(rows, named, settings.get("sample_weight"), 2 if isinstance(loss, Loss) else 1)
            y = self._numbered(named, classes)
            classes = classes or len(self.classes)
            if sampler is not None:
                x, y = sampler_of(sampler, x, y), None
        elif isinstance(x, Batches):
            names = x.classes_.tolist()
            # Numbers from 0 stay what they are, unless earlier labels were numbered.
            numbered = bool(self.classes) or x.classes_.dtype.kind not in "biuf" or names[0] < 0
            if numbered:
                x = Renumbered(x, self._numbered(names, classes))
            classes = classes or (len(self.classes) if numbered else int(names[-1]) + 1)
        if numbered and settings.get("validation_data") is not None:
            inputs, held_labels, *rest = settings["validation_data"]
            inputs, rows = fitting(self.encoder, inputs)
            named = values_of(held_labels)
            _check_training(rows, named, rest[0] if rest else None, 1)
            settings["validation_data"] = (inputs, self._numbered(named, classes, new=False), *rest)
        if self._training is None:
            head = getattr(loss, "head", lambda classes: None)(classes)
            (output,) = self.encoder.outputs
            outputs = output if head is None else head(output)
            self._training = keras.Model(input_of(self.encoder), outputs, name="training")
            self._training.compile(**self._compiled)
        self.calibration = None
        if isinstance(loss, Loss):
            settings["callbacks"] = [*keras.tree.flatten(settings.get("callbacks") or []), _CountSkipped(loss)]
        return self._training.fit(x, y, **settings)

    def _numbered(self, labels: list[Key], classes: int | None, *, new: bool = True) -> np.ndarray:
        """Labels as numbers from 0, which they keep in later calls."""
        trained = self._training
        if new and not self.classes and trained is not None and trained.outputs[0] is not self.encoder.outputs[0]:
            raise ValueError(
                "labels must go on as they began, as the numbers of a sampler or dataset that the loss's weights "
                "are of, got others to number: give a sampler of those numbers, or call compile again"
            )
        classes_before = list(self.classes) if new else self.classes
        codes, count = codes_of(classes_before, labels)
        names = dict(zip(codes[1].tolist(), labels, strict=True))
        if not new and count > len(classes_before):
            raise ValueError(f"validation labels must be trained on, got {names[len(classes_before)]!r}: leave it out")
        if classes is not None and count > classes:
            raise ValueError(f"labels must be at most {classes} classes, got {count}: raise classes")
        self.classes = classes_before + [names[c] for c in range(len(classes_before), count)]
        return codes[1]

    def embed(self, x: Inputs, *, batch_size: int = 256) -> np.ndarray:
        """The unit vectors of inputs, (n, dim) float32; a zero vector stays zero, no rows give none.

        Raises TypeError or ValueError for inputs that do not fit the encoder, or of which it makes NaN.
        """
        x, rows = fitting(self.encoder, x)
        if rows == 0:
            return np.zeros((0, self.dim), np.float32)
        vectors = np.asarray(self.encoder.predict(x, batch_size=batch_size, verbose=0), np.float32)
        bad = int((~np.isfinite(vectors)).any(axis=1).sum())
        if bad:
            raise ValueError(
                f"embeddings must be finite, got {bad} of {len(vectors)} rows with a NaN or an infinity: look for it "
                "in those inputs, or in the encoder's weights"
            )
        return unit_rows(vectors)

    def predict(self, x: Inputs, *, batch_size: int = 256) -> np.ndarray:
        """As :meth:`embed`."""
        return self.embed(x, batch_size=batch_size)

    def index(
        self,
        x: Inputs,
        y: Labels | None = None,
        data: object = None,
        *,
        ids: Labels | None = None,
        batch_size: int = 256,
    ) -> list[Key]:
        """Add items to the index, and return their ids.

        y: labels (n,) of int, str or bytes, or None. data: (n, ...) numbers or text, what a look-up shows of each, such
        as ``x`` itself; it is saved with the model. ids: (n,) distinct int, str or bytes; numbers from 0 on where
        None. Raises as :meth:`GrowingIndex.add`; RuntimeError where the encoder's weights changed after the index.
        """
        self._check_fresh()
        vectors = self.embed(x, batch_size=batch_size)
        index = self._index
        if index is None or not len(index):
            index = GrowingIndex(
                self.dim, encoder=fingerprint(self.encoder), settings=self.settings, growth=self.growth, seed=self.seed
            )
        new_ids = list(range(index.next_id, index.next_id + len(vectors))) if ids is None else values_of(ids, "ids")
        shown = [] if data is None else arrays_of(data, len(vectors))
        index.add(new_ids, vectors, y)
        self._index = index
        self._data.update(zip(new_ids, shown, strict=False))
        return new_ids

    @property
    def items(self) -> GrowingIndex:
        """The index. Raises RuntimeError where nothing is indexed or the encoder's weights changed since."""
        self._check_fresh()
        if self._index is None or not len(self._index):
            raise RuntimeError("the index must hold items, it is empty: call index(x, y) first")
        return self._index

    def _check_fresh(self) -> None:
        if self._index is not None and len(self._index) and self._index.encoder != fingerprint(self.encoder):
            raise RuntimeError(
                "the index must be of the encoder as it is, whose weights changed since: call reset_index(), then index"
            )

    def reset_index(self) -> None:
        """Forget all items and the threshold."""
        self._index, self.calibration, self._data = None, None, {}

    def remove(self, ids: Labels) -> None:
        """Remove items. Raises KeyError for an id that is not indexed."""
        self.items.remove(ids)
        for item in values_of(ids, "ids to remove", ordered=False):
            self._data.pop(item, None)

    def lookup(self, x: Inputs, k: int = 5, *, batch_size: int = 256) -> list[list[Neighbour]]:
        """The k nearest items of each input, best first, ties in order of adding; [] for no inputs.

        Raises ValueError where k is above the number of items.
        """
        items = self.items
        rows, scores = items.search(self.embed(x, batch_size=batch_size), k)
        return [
            [
                Neighbour(n + 1, items.ids[r], items.labels[r], float(v[n]), self._data.get(items.ids[r]))
                for n, r in enumerate(row)
            ]
            for row, v in zip(rows, scores, strict=True)
        ]

    def single_lookup(self, x: Inputs, k: int = 5) -> list[Neighbour]:
        """:meth:`lookup` of one input, without the batch axis; a dict of them for an encoder of several."""
        if isinstance(x, dict):
            one: Inputs = {name: np.asarray(v)[None] for name, v in x.items()}
        elif isinstance(input_of(self.encoder), list | tuple):
            one = [np.asarray(v)[None] for v in x]
        else:
            one = np.asarray(x)[None]
        try:
            fitting(self.encoder, one)
        except ValueError as e:
            raise ValueError(
                f"single_lookup takes one input without the batch axis; with it, {e}; call lookup for several"
            ) from e
        return self.lookup(one, k)[0]

    def calibrate(
        self, x: Inputs, y: Labels, *, precision: float | None = 0.95, verbose: int = 1, batch_size: int = 256
    ) -> Calibration:
        """Choose the threshold at which a match has the target precision, keep it for :meth:`match`, and print it.

        x, y: queries and labels that are not in the index, such as those match will get; a label that is not indexed
        cannot be matched rightly. precision: None for the threshold with the highest F1, that of
        :meth:`evaluate_classification`. verbose: 0 prints nothing. Raises ValueError where no threshold reaches the
        target, or no match is right.
        """
        scores, right, known = self._judged(x, y, batch_size, "calibrate")
        self.calibration = calibrate(scores, right, precision, known)
        if verbose:
            print(self.calibration)
        return self.calibration

    def evaluate_classification(
        self, x: Inputs, y: Labels, *, threshold: float | None = None, batch_size: int = 256
    ) -> dict[str, float]:
        """How well :meth:`match` tells the labels of queries that are not in the index: see :func:`match_metrics`.

        x, y: as :meth:`calibrate`. threshold: the calibrated one where None; RuntimeError where there is neither.
        """
        scores, right, known = self._judged(x, y, batch_size, "evaluate_classification")
        return match_metrics(scores, right, known, self._threshold(threshold))

    def _judged(self, x: Inputs, y: Labels, batch_size: int, who: str) -> tuple[np.ndarray, list[bool], list[bool]]:
        """Of each query the best score, whether its label is right, and whether the true label is indexed."""
        if isinstance(x, np.ndarray) and not len(x):
            raise ValueError(f"{who} needs queries, got none: give some that are not in the index")
        matched, scores = self._best(x, batch_size)
        wanted = values_of(y)
        if len(wanted) != len(matched):
            raise ValueError(f"each query must have a label, got {len(wanted)} labels for {len(matched)} queries")
        indexed = set(self.items.alive()[1])
        return scores, [a == b for a, b in zip(matched, wanted, strict=True)], [label in indexed for label in wanted]

    def match(
        self, x: Inputs, *, threshold: float | None = None, no_match: Key | None = None, batch_size: int = 256
    ) -> list[Key | None]:
        """The label of each input's nearest item, ``no_match`` where its score is below the threshold.

        threshold: the calibrated one where None. Raises RuntimeError where there is neither.
        """
        least = self._threshold(threshold)
        matched, scores = self._best(x, batch_size)
        return [label if score >= least else no_match for label, score in zip(matched, scores, strict=True)]

    def _threshold(self, threshold: float | None) -> float:
        least = self.calibration.threshold if threshold is None and self.calibration else threshold
        if least is None:
            raise RuntimeError("match needs a threshold: call calibrate first, or give one")
        if not isinstance(least, int | float | np.number) or least != least:
            raise ValueError(f"threshold must be a number, a cosine, got {least!r}: call calibrate for one")
        return float(least)

    def _best(self, x: Inputs, batch_size: int) -> tuple[list[Key | None], np.ndarray]:
        items = self.items
        rows, scores = items.search(self.embed(x, batch_size=batch_size), 1)
        return [items.labels[row] for row in rows[:, 0]], scores[:, 0]

    def evaluate_retrieval(
        self, x: Inputs, y: Labels, *, ks: Sequence[int] = (1, 5, 10), to_r: bool = True, batch_size: int = 256
    ) -> dict[str, float]:
        """The metrics of ``topkin.metrics.retrieval`` of queries against the indexed items, by exact search.

        x, y: queries and labels that are not in the index. ``knn_accuracy@k`` is there too.
        """
        _, indexed, vectors = self.items.alive()
        case = self.embed(x, batch_size=batch_size), values_of(y), vectors, indexed
        metrics = retrieval_metrics(*case, ks=ks, to_r=to_r)
        return {**metrics, **{f"knn_accuracy@{k}": v for k, v in knn_accuracy(*case, ks=ks).items()}}

    def save(self, folder: str, *, overwrite: bool = False) -> None:
        """Write encoder, index, stored data and calibration to a folder of their own; how to train is not kept.

        It appears whole, and is an encoder's folder too: ``topkin embed --encoder`` runs it over a table. overwrite:
        replace what an earlier save wrote. Raises FileExistsError where the folder has other files or overwrite is
        False, RuntimeError where the index is stale, ValueError for an encoder that cannot be loaded from what is
        written, a Lambda, a class that is not registered; InputError for one of a fixed number of rows.
        """
        self._check_fresh()
        held = storage.files(folder, hidden=True)
        sealed = manifest.read(folder) if STATE in held else None
        if held and not (overwrite and sealed is not None and {*held} <= {*sealed["files"], manifest.NAME}):
            raise FileExistsError(
                f"{folder} must be empty or new, it has {len(held)} files: give overwrite=True or another"
            )
        beside = f"{folder.rstrip('/')}.{uuid.uuid4().hex}"
        saved = saved_encoder(self.encoder)
        signature = saved.alone({}, whole=False)
        saved.write(beside, signature)
        if self._index is not None:
            self._index.save(storage.join(beside, "index"))
        if self._data:
            stored.save(self._data, storage.join(beside, DATA))
        if self.calibration is not None:
            self.calibration.save(storage.join(beside, CURVE))
        state = {"format": FORMAT, "encoder": signature.hash, "dim": self.dim, "seed": self.seed}
        storage.write_json({**state, "indexed": self._index is not None}, storage.join(beside, STATE))
        manifest.seal(beside, stage="similarity", key=signature.hash, summary={"items": len(self._index or ())})
        if not held:
            storage.remove_folder(folder)
            storage.move_folder(beside, folder, last=manifest.NAME)
            return
        storage.move_folder(folder, f"{beside}.old", last=manifest.NAME)
        storage.move_folder(beside, folder, last=manifest.NAME)
        storage.remove_folder(f"{beside}.old")

    @classmethod
    def load(cls, folder: str) -> "SimilarityModel":
        """Read what :meth:`save` wrote; every file is verified first and Keras loads in safe mode.

        Raises ArtifactError where a file is missing, changed, or of another format.
        """
        manifest.verify(folder)
        state = storage.read_json(storage.join(folder, STATE))
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ArtifactError(f"{folder}/{STATE} must have format {FORMAT}: save the model again with this version")
        encoder = read_encoder(folder)
        model = cls(encoder, seed=state["seed"])
        if state["indexed"]:
            model._index = GrowingIndex.load(storage.join(folder, "index"))
            if storage.exists(storage.join(folder, DATA)):
                model._data = stored.load(storage.join(folder, DATA))
            model.settings, model.growth = model._index.settings, model._index.growth
            if model._index.encoder != fingerprint(encoder):
                raise ArtifactError(f"{folder} must be of one encoder, its index is of another: index the items again")
        if storage.exists(storage.join(folder, CURVE)):
            model.calibration = Calibration.load(storage.join(folder, CURVE))
        return model


def _loss_of(name: str) -> Any:
    """A loss of this library by its name, else Keras'. Raises ValueError where neither has it, with the nearest."""
    try:
        return part("loss", name)
    except ValueError as e:
        try:
            return keras.losses.get(name)
        except ValueError:
            raise e from None


class _CountSkipped(keras.callbacks.Callback):
    """Tells in the history how many batches of each epoch a loss passed over."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss, self.before = loss, loss.skipped

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the count."""
        now = self.loss.skipped
        if logs is not None:
            logs["skipped"] = now - self.before
        self.before = now


def _check_training(rows: int | None, labels: list[Key], weights: object, least: int) -> None:
    """Raise ValueError for labels or sample weights that nothing can be learned from. least: classes that there are."""
    if rows is not None and rows != len(labels):
        raise ValueError(f"inputs and labels must have the same length, got {rows} and {len(labels)}: one label a row")
    classes = len(set(labels))
    if classes < least:
        raise ValueError(
            f"labels must be of {'two classes' if least > 1 else 'one class'} at least, got {classes} in {len(labels)} "
            "rows: give rows of more classes"
        )
    if weights is None:
        return
    weights = np.asarray(weights)
    if weights.shape not in ((len(labels),), (len(labels), 1)) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"sample weights must be one number for each row, ({len(labels)},), got {weights.dtype} of shape "
            f"{weights.shape}"
        )
    bad = int((~(np.isfinite(weights) & (weights >= 0))).sum())
    if bad:
        raise ValueError(
            f"sample weights must be finite and at least 0, got {bad} others: give 0 to a row that is not to count"
        )
