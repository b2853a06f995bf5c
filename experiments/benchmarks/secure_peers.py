"""What the secure sum is measured against, on the same float32 vectors, as each peer ships.

Flower SecAgg+: the functions that its client mod and its server workflow call on vectors, in their order, without
key shares, messages or serialisation. Flower plaintext: ``aggregate_arrayrecords`` of its message API. TenSEAL: CKKS
as NVFlare sets it up. The tuned mean is ours: the fastest float32 mean that we know how to write with numpy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.common.secure_aggregation import ndarrays_arithmetic as arithmetic
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

from fedprofile.secagg.threads import spread

Vector = npt.NDArray[np.float32]
TARGET, MODULUS = 1 << 22, 1 << 32  # the defaults of SecAggPlusWorkflow
CKKS = (8192, (60, 40, 40), 2**40)


class FlowerSecAggPlus:
    """n nodes with their keys and seeds; nodes are numbered from 0."""

    def __init__(self, n: int, clip: float) -> None:
        self.clip, self.keys = clip, []
        for _ in range(n):
            private, public = generate_key_pairs()
            self.keys.append((private_key_to_bytes(private), public_key_to_bytes(public)))
        self.seeds = [os.urandom(32) for _ in range(n)]

    def mask(self, me: int, vector: Vector) -> list[npt.NDArray[np.int64]]:
        """``_collect_masked_vectors`` of secaggplus_mod between its decryption and its serialisation."""
        parts = arithmetic.parameters_multiply([vector], 1.0)
        parts = arithmetic.factor_combine(TARGET, quantize(parts, self.clip, TARGET))
        shapes = arithmetic.get_parameters_shape(parts)
        parts = arithmetic.parameters_addition(parts, pseudo_rand_gen(self.seeds[me], MODULUS, shapes))
        for peer, (_, public) in enumerate(self.keys):
            if peer == me:
                continue
            shared = generate_shared_key(bytes_to_private_key(self.keys[me][0]), bytes_to_public_key(public))
            pad = pseudo_rand_gen(shared, MODULUS, shapes)
            combine = arithmetic.parameters_addition if me > peer else arithmetic.parameters_subtraction
            parts = combine(parts, pad)
        return arithmetic.parameters_mod(parts, MODULUS)

    def open(self, masked: Sequence[list[npt.NDArray[np.int64]]]) -> npt.NDArray[np.float64]:
        """The mean: the sums of ``collect_masked_vectors_stage`` and ``unmask_stage``, shares already combined."""
        total = masked[0]
        for parts in masked[1:]:
            total = arithmetic.parameters_addition(total, parts)
        total = arithmetic.parameters_mod(total, MODULUS)
        for seed in self.seeds:
            pad = pseudo_rand_gen(seed, MODULUS, arithmetic.get_parameters_shape(total))
            total = arithmetic.parameters_subtraction(total, pad)
        ratio, total = arithmetic.factor_extract(arithmetic.parameters_mod(total, MODULUS))
        (mean,) = dequantize(total, self.clip, TARGET)
        mean += -(len(self.seeds) - 1) * self.clip
        mean *= TARGET / ratio
        return mean


def plaintext_records(vectors: Sequence[Vector]) -> list[RecordDict]:
    """What Flower's FedAvg receives: one array record and one weight a node."""
    return [
        RecordDict({"arrays": ArrayRecord({"w": Array(v)}), "metrics": MetricRecord({"num-examples": 1})})
        for v in vectors
    ]


def plaintext_mean(records: list[RecordDict]) -> npt.NDArray[np.float64]:
    return aggregate_arrayrecords(records, "num-examples")["w"].numpy()


def tuned_mean(vectors: Sequence[Vector], threads: int, chunk: int = 1 << 16) -> Vector:
    """Chunks that stay in cache, one multiplication, a new array as result, like every peer."""
    factor, out = np.float32(1 / len(vectors)), np.empty_like(vectors[0])

    def work(starts: Iterator[int]) -> None:
        for at in starts:
            part = out[at : at + chunk]
            np.add(vectors[0][at : at + chunk], vectors[1][at : at + chunk], out=part)
            for v in vectors[2:]:
                np.add(part, v[at : at + chunk], out=part)
            np.multiply(part, factor, out=part)

    spread(work, range(0, len(out), chunk), threads)
    return out


class TenSeal:
    """CKKS with one key for all. Raises ImportError where tenseal is not installed."""

    def __init__(self) -> None:
        import tenseal

        degree, bits, scale = CKKS
        self._tenseal, self._slots = tenseal, degree // 2
        self._context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=list(bits))
        self._context.global_scale = scale

    def encrypt(self, vector: Vector) -> int:
        """Encrypts slot by slot and serialises nothing; how many ciphertexts."""
        count = 0
        for at in range(0, len(vector), self._slots):
            self._tenseal.ckks_vector(self._context, vector[at : at + self._slots])
            count += 1
        return count
