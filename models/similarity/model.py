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
from topkin.models.ops.encoders import Inputs, embedding_dim, fingerprint, fitting, input_of
from topkin.models.similarity.calibration import Calibration, calibrate
from topkin.models.similarity.index import GrowingIndex, Growth, Key, Labels
from topkin.models.similarity.saved import read_encoder, saved_encoder

FORMAT = 3
STATE = "similarity.json"
CURVE = "calibration.parquet"


class Neighbour(NamedTuple):
    """An indexed item beside a query.

    Attributes:
        rank: from 1.
        id: as indexed.
        label: as indexed.
        score: the cosine, -1 to 1.

    Examples:
        >>> from topkin.models import Neighbour
        >>> Neighbour(rank=1, id="sku-7", label="cup", score=0.93).label
        'cup'
    """

    rank: int
    id: Key
    label: Key | None
    score: float


class SimilarityModel:
    """A model that finds alike things: an encoder, how it is trained, an index, and a decision.

    Items may be added and removed at any time, of classes never trained on too. An encoder whose weights changed since,
    by whatever call, makes the index stale: :meth:`reset_index`, then index again.

    Args:
        encoder: a built Keras model, inputs to (n, dim); its output is made unit rows wherever it is compared
            outside the loss.
        settings: of the index's graph.
        growth: when the graph is built anew.
        seed: of the graph.

    Raises:
        ValueError: the encoder is not built, or has another output.

    Examples:
        >>> from topkin.models import MetricEmbedding, SimilarityModel, losses
        >>> rows, labels = np.eye(4)[[0, 0, 1, 1, 2, 2]], np.array(["cup", "cup", "pan", "pan", "pot", "pot"])
        >>> inputs = keras.Input((4,))
        >>> model = SimilarityModel(keras.Model(inputs, MetricEmbedding(3, seed=1)(inputs)))
        >>> model.compile("adam", loss=losses.MultiSimilarity())
        >>> history = model.fit(rows, labels, verbose=0)
        >>> ids = model.index(rows, labels)
        >>> [neighbour.label for neighbour in model.single_lookup(rows[2], k=2)]
        ['pan', 'pan']
    """

    def __init__(
        self,
        encoder: keras.Model,
        *,
        settings: IndexSettings | None = None,
        growth: Growth | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder, self.dim, self.seed = encoder, embedding_dim(encoder), seed
        self.settings, self.growth = settings or IndexSettings(), growth or Growth()
        self.calibration: Calibration | None = None
        self.classes: list[Key] = []
        self._compiled: dict[str, Any] | None = None
        self._training: keras.Model | None = None
        self._index: GrowingIndex | None = None

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        loss: keras.losses.Loss | str | None = None,
        **settings: Any,
    ) -> None:
        """Say how to train. loss: a metric loss of ``topkin.models``, its head put on the encoder by itself, or any
        Keras loss of labels and embeddings. Others as ``keras.Model.compile``."""
        if loss is None:
            raise ValueError("compile needs a loss, got None: such as loss=MultiSimilarity()")
        self._compiled, self._training = {"optimizer": optimizer, "loss": loss, **settings}, None

    def fit(
        self, x: Inputs, y: Labels | None = None, *, classes: int | None = None, **settings: Any
    ) -> keras.callbacks.History:
        """Train the encoder, and return Keras' history.

        x: inputs with labels ``y`` (n,) of int, str or bytes; or a dataset of (inputs, labels from 0). classes:
        how many labels a loss with weights of its own has room for; counted where ``y`` is given. Others as
        ``keras.Model.fit``. The history's ``skipped`` counts an epoch's batches that taught nothing, such as a last one
        of one class. Raises RuntimeError before :meth:`compile`; ValueError for labels of one class, lengths that
        differ, or sample weights that are not finite or below 0.
        """
        if self._compiled is None:
            raise RuntimeError("fit needs a compiled model: call compile(loss=…) first")
        loss = self._compiled["loss"]
        if y is not None:
            x, rows = fitting(self.encoder, x)
            named = values_of(y)
            _check_training(rows, named, settings.get("sample_weight"), 2 if isinstance(loss, Loss) else 1)
            y = self._numbered(named, classes)
            classes = classes or len(self.classes)
            if settings.get("validation_data") is not None:
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

    def index(
        self, x: Inputs, labels: Labels | None = None, *, ids: Labels | None = None, batch_size: int = 256
    ) -> list[Key]:
        """Add items to the index, and return their ids.

        labels: (n,) int, str or bytes, or None. ids: (n,) distinct int, str or bytes; numbers from 0 on where
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
        index.add(new_ids, vectors, labels)
        self._index = index
        return new_ids

    @property
    def items(self) -> GrowingIndex:
        """The index. Raises RuntimeError where nothing is indexed or the encoder's weights changed since."""
        self._check_fresh()
        if self._index is None or not len(self._index):
            raise RuntimeError("the index must hold items, it is empty: call index(x, labels) first")
        return self._index

    def _check_fresh(self) -> None:
        if self._index is not None and len(self._index) and self._index.encoder != fingerprint(self.encoder):
            raise RuntimeError(
                "the index must be of the encoder as it is, whose weights changed since: call reset_index(), then index"
            )

    def reset_index(self) -> None:
        """Forget all items and the threshold."""
        self._index, self.calibration = None, None

    def remove(self, ids: Labels) -> None:
        """Remove items. Raises KeyError for an id that is not indexed."""
        self.items.remove(ids)

    def lookup(self, x: Inputs, k: int = 5, *, batch_size: int = 256) -> list[list[Neighbour]]:
        """The k nearest items of each input, best first, ties in order of adding; [] for no inputs.

        Raises ValueError where k is above the number of items.
        """
        items = self.items
        rows, scores = items.search(self.embed(x, batch_size=batch_size), k)
        return [
            [Neighbour(n + 1, items.ids[r], items.labels[r], float(v[n])) for n, r in enumerate(row)]
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

    def calibrate(self, x: Inputs, labels: Labels, *, precision: float = 0.95, batch_size: int = 256) -> Calibration:
        """Choose the threshold at which a match has the target precision, and keep it for :meth:`match`.

        x, labels: queries that are not in the index, such as those match will get; a label that is not indexed
        cannot be matched rightly. Raises ValueError where no threshold reaches the target.
        """
        if isinstance(x, np.ndarray) and not len(x):
            raise ValueError("calibrate needs queries, got none: give some that are not in the index")
        matched, scores = self._best(x, batch_size)
        wanted = values_of(labels)
        if len(wanted) != len(matched):
            raise ValueError(f"each query must have a label, got {len(wanted)} labels for {len(matched)} queries")
        right = [a == b for a, b in zip(matched, wanted, strict=True)]
        self.calibration = calibrate(scores, right, precision)
        return self.calibration

    def match(self, x: Inputs, *, threshold: float | None = None, batch_size: int = 256) -> list[Key | None]:
        """The label of each input's nearest item, None where its score is below the threshold.

        threshold: the calibrated one where None. Raises RuntimeError where there is neither.
        """
        least = self.calibration.threshold if threshold is None and self.calibration else threshold
        if least is None:
            raise RuntimeError("match needs a threshold: call calibrate first, or give one")
        if not isinstance(least, int | float | np.number) or least != least:
            raise ValueError(f"threshold must be a number, a cosine, got {least!r}: call calibrate for one")
        matched, scores = self._best(x, batch_size)
        return [label if score >= least else None for label, score in zip(matched, scores, strict=True)]

    def _best(self, x: Inputs, batch_size: int) -> tuple[list[Key | None], np.ndarray]:
        items = self.items
        rows, scores = items.search(self.embed(x, batch_size=batch_size), 1)
        return [items.labels[row] for row in rows[:, 0]], scores[:, 0]

    def evaluate_retrieval(
        self, x: Inputs, labels: Labels, *, ks: Sequence[int] = (1, 5, 10), to_r: bool = True, batch_size: int = 256
    ) -> dict[str, float]:
        """The metrics of ``topkin.metrics.retrieval`` of queries against the indexed items, by exact search.

        x, labels: queries that are not in the index. ``knn_accuracy@k`` is there too.
        """
        _, indexed, vectors = self.items.alive()
        case = self.embed(x, batch_size=batch_size), values_of(labels), vectors, indexed
        metrics = retrieval_metrics(*case, ks=ks, to_r=to_r)
        return {**metrics, **{f"knn_accuracy@{k}": v for k, v in knn_accuracy(*case, ks=ks).items()}}

    def save(self, folder: str, *, overwrite: bool = False) -> None:
        """Write encoder, index and calibration to a folder of their own; how to train is not kept.

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
            model.settings, model.growth = model._index.settings, model._index.growth
            if model._index.encoder != fingerprint(encoder):
                raise ArtifactError(f"{folder} must be of one encoder, its index is of another: index the items again")
        if storage.exists(storage.join(folder, CURVE)):
            model.calibration = Calibration.load(storage.join(folder, CURVE))
        return model


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


def _check_training(rows: int | None, labels: list[Key], weights: Any, least: int) -> None:
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
