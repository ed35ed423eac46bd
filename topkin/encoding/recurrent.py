"""A recurrent network over a history in NumPy: what comes next after these purchases in this order.

One layer of gated recurrent units (Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP
2014), with the reset after the product, as Keras has it. It is read over each user's latest purchases::

    x_t = in_t, log(1 + days since the purchase before)
    z, r = sigmoid(x_t W_zr + b_zr + h_t U_zr + c_zr)      how much stays, how much of the state is read
    h_t+1 = z h_t + (1 - z) tanh(x_t W_h + b_h + r (h_t U_h + c_h))
    user = h_end O

Trained by ``topkin.models.training.sequence``; users are encoded here, without TensorFlow.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.schemas import encoder_of, with_encoder
from topkin.errors import ArtifactError
from topkin.interactions import Interactions
from topkin.linalg.blas import one_blas_thread

FILE = "sequence.parquet"
_ROWS = 256


@dataclass(frozen=True)
class Gru:
    """The network's weights, for in-vectors of d coordinates; all float32.

    length: how many of the latest purchases are read. kernel: W, (d + 1, 3 d), the last row for the days, gates in
    the order z, r, h. recurrent: U, (d, 3 d). bias: b and c, (2, 3 d). output: O, (d, d).
    """

    length: int
    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    output: np.ndarray

    def read(self, history: Interactions, in_vectors: np.ndarray) -> np.ndarray:
        """The users' vectors, (n_users, d) float32; zero for a user without a purchase of a known item.

        history: distinct items in time order. in_vectors: (n_items, d) float32, zero for an item of which nothing
        is known. A row depends on that user alone.
        """
        latest = history.latest(self.length)
        inputs = in_vectors[latest.items]
        known = inputs.any(axis=1)
        indptr = np.concatenate([[0], np.cumsum(known)])[latest.indptr]
        x = np.column_stack([inputs[known], days_between(latest.ages[known], indptr)])
        lengths = np.diff(indptr)
        longest = np.argsort(-lengths, kind="stable")
        users = np.zeros((history.n_users, len(self.output)), np.float32)
        with one_blas_thread():
            for start in range(0, int((lengths > 0).sum()), _ROWS):
                rows = longest[start : start + _ROWS]
                users[rows] = self._block(x, indptr[rows], lengths[rows])[: len(rows)]
        return users

    def _block(self, x: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """What :meth:`read` gives for runs of x, longest first.

        Products of one shape whatever the number of runs, in float64 and rounded at the end: single precision would
        depend on a row's place among the others.
        """
        d = len(self.output)
        kernel, recurrent, bias = (a.astype(np.float64) for a in (self.kernel, self.recurrent, self.bias))
        h, x_t = np.zeros((_ROWS, d)), np.zeros((_ROWS, d + 1))
        for t in range(int(lengths[0])):
            on = int((lengths > t).sum())
            x_t[:on] = x[starts[:on] + t]
            read, kept = x_t @ kernel + bias[0], h @ recurrent + bias[1]
            gates = 0.5 * np.tanh(0.5 * (read[:, : 2 * d] + kept[:, : 2 * d])) + 0.5
            z, r = gates[:, :d], gates[:, d:]
            new = z * h + (1 - z) * np.tanh(read[:, 2 * d :] + r * kept[:, 2 * d :])
            h[:on] = new[:on]
        return (h @ self.output.astype(np.float64)).astype(np.float32)


def days_between(ages: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """log(1 + days) from each purchase's forerunner to it, (n,) float32; 0 for the first of each run of ``indptr``."""
    made = np.zeros(len(ages), np.float32)
    made[1:] = np.log1p(np.maximum(ages[:-1] - ages[1:], 0))
    made[indptr[:-1][np.diff(indptr) > 0]] = 0
    return made


def write(gru: Gru, folder: str, encoder: str) -> None:
    """Keep the network beside the encoder of that hash, as one row of ``sequence.parquet``."""
    arrays = {"kernel": gru.kernel, "recurrent": gru.recurrent, "bias": gru.bias, "output": gru.output}
    columns = {"length": pa.array([gru.length], pa.int32()), "dim": pa.array([len(gru.output)], pa.int32())}
    columns |= {name: pa.array([array.ravel()], pa.list_(pa.float32())) for name, array in arrays.items()}
    table = pa.table(columns)
    storage.write_parquet(table.cast(with_encoder(table.schema, encoder)), storage.join(folder, FILE))


def load(folder: str, encoder: str) -> Gru:
    """The network that :func:`write` kept. Raises ArtifactError where it is missing or another encoder's."""
    path = storage.join(folder, FILE)
    table = storage.read_parquet(path)
    if encoder_of(table.schema) != encoder:
        raise ArtifactError(f"{path} must be of the encoder {encoder}, got {encoder_of(table.schema)}: train again")
    (row,) = table.to_pylist()
    d = row["dim"]
    shapes = {"kernel": (d + 1, 3 * d), "recurrent": (d, 3 * d), "bias": (2, 3 * d), "output": (d, d)}
    return Gru(row["length"], **{name: np.array(row[name], np.float32).reshape(s) for name, s in shapes.items()})
