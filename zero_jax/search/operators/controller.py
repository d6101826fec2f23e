"""A recurrent controller that writes programs, token by token (Zoph and Le 2017).

A program is a sequence of slots, each of seven tokens: op, in1, in2, out and three constants. An LSTM reads the tokens
so far and gives the next one's probabilities; what its op and the space do not allow has probability 0.

Axes: `n` programs, `L` slots, `V` values of a token, `H` hidden units.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zero_jax.program import ops
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace

TOKENS = 7
"""Of a slot."""


class Sampled(NamedTuple):
    """What a controller has written, or would have.

    Attributes:
      tokens: int32 `[n, L, 7]`.
      log_probability: `[n]`.
      entropy: `[n]`, the sum over the tokens.
    """

    tokens: Array
    log_probability: Array
    entropy: Array


@dataclasses.dataclass(frozen=True)
class Controller:
    """An LSTM over the slots of a space; its weights are a pytree that is passed to each function.

    Attributes:
      space: of the programs.
      constants: the values that constants may have.
      hidden: H.

    Raises:
      ValueError: Equinox is not installed, or no constant is positive.
    """

    space: SearchSpace
    constants: tuple[float, ...]
    hidden: int

    def __post_init__(self) -> None:
        equinox()
        if not any(value >= 0 for value in self.constants):
            raise ValueError(f"constants {self.constants} has no positive one, which indices and deviations need")

    @functools.cached_property
    def allowed(self) -> tuple[np.ndarray, ...]:
        """`[L, 65]` bool, which op may stand in a slot; then for each other token `[65, V]`, given the op."""
        component = np.repeat(np.arange(3), self.space.capacity)
        op = np.zeros((len(component), len(ops.OPS)), bool)
        op[:, 0] = True
        for slot, c in enumerate(component):
            op[slot, list(self.space.ops[c])] = True
        addresses = max(self.space.memory)
        kinds = np.column_stack([ops.INPUT_KINDS, ops.OUTPUT_KINDS])
        tables = [op]
        for column in range(3):
            kind = kinds[:, column]
            count = np.where(kind >= 0, np.array(self.space.memory)[kind], 1)
            first = np.where((column == 2) & (kind >= 0) & (kind < 2) & (count > 1), 1, 0)
            places = np.arange(addresses)
            tables.append((places >= first[:, None]) & (places < count[:, None]))
        values = np.array(self.constants)
        for i in range(3):
            meaning = ops.CONSTANT_MEANINGS[:, i]
            positive = np.isin(meaning, ("index", "stdev"))
            fits = (values >= 0) | ~positive[:, None]
            tables.append(np.where((meaning == "")[:, None], np.arange(len(values)) == 0, fits))
        return tuple(tables)

    def weights(self, key: Array) -> Any:
        """New weights."""
        eqx = equinox()
        sizes = [table.shape[1] for table in self.allowed]
        keys = jax.random.split(key, 2 * TOKENS + 1)
        heads = [eqx.nn.Linear(self.hidden, size, key=k) for size, k in zip(sizes, keys[:TOKENS], strict=True)]
        embedded = [eqx.nn.Embedding(size, self.hidden, key=k) for size, k in zip(sizes, keys[TOKENS:-1], strict=True)]
        return heads, embedded, eqx.nn.LSTMCell(self.hidden, self.hidden, key=keys[-1])

    def written(self, weights: Any, key: Array, n: int) -> Sampled:
        """`n` programs, drawn."""
        keys = jax.random.split(key, n)
        return jax.vmap(lambda one: self._gone_through(weights, one, None))(keys)

    def judged(self, weights: Any, tokens: Array) -> Sampled:
        """How likely programs `[n, L, 7]` are."""
        return jax.vmap(lambda one: self._gone_through(weights, None, one))(tokens)

    def _gone_through(self, weights: Any, key: Array | None, given: Array | None) -> Sampled:
        heads, embedded, cell = weights
        slots = sum(self.space.capacity)
        allowed = [jnp.asarray(table) for table in self.allowed]

        def slot(carry: Any, number: Array) -> tuple[Any, tuple[Array, Array, Array]]:
            state, read = carry
            tokens: list[Array] = []
            log_probability, entropy = jnp.zeros(()), jnp.zeros(())
            for i in range(TOKENS):
                state = cell(read, state)
                mask = allowed[0][number] if i == 0 else allowed[i][tokens[0]]
                logits = jnp.where(mask, heads[i](state[0]), -jnp.inf)
                logs = jax.nn.log_softmax(logits)
                if given is None:
                    assert key is not None
                    token = jax.random.categorical(jax.random.fold_in(key, number * TOKENS + i), logits)
                else:
                    token = given[number, i]
                tokens.append(token)
                log_probability += logs[token]
                entropy -= jnp.sum(jnp.where(mask, jnp.exp(logs) * jnp.where(mask, logs, 0.0), 0.0))
                read = embedded[i](token)
            return (state, read), (jnp.stack(tokens), log_probability, entropy)

        zeros = jnp.zeros(self.hidden)
        _, (tokens, logs, entropies) = lax.scan(slot, ((zeros, zeros), zeros), jnp.arange(slots))
        return Sampled(tokens.astype(jnp.int32), logs.sum(), entropies.sum())

    def programs(self, tokens: np.ndarray) -> Programs:
        """The programs that tokens `[n, L, 7]` stand for."""
        op = tokens[..., 0]
        values = np.array(self.constants, np.float32)[tokens[..., 4:]]
        data = np.where(ops.CONSTANT_MEANINGS[op] == "", 0, values).astype(np.float32)
        length = np.tile(np.array(self.space.capacity, np.int32), (len(tokens), 1))
        code = tokens[..., :4].astype(np.int32)
        return Programs(code, data, length, self.space.capacity, self.space.memory)


def equinox() -> Any:
    """Equinox.

    Raises:
      ValueError: it is not installed.
    """
    try:
        import equinox as eqx
    except ModuleNotFoundError:
        raise ValueError(
            "this search has a neural network, for which it needs Equinox: pip install 'zero-jax[rl]'"
        ) from None
    return eqx
