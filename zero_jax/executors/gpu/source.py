"""The text of the kernel: an interpreter of one program on a group of tasks by a block of threads, in CUDA C++.

The text is the body of a function that compilers for CPUs take too, so that the same source can be run, and its
barriers raced, without a GPU. Who carries it supplies `ARGUMENTS` and `RESULTS` as pointers; `block` and `thread`,
numbers from 0 on; `shared`, as many words (of 32 bits) as `Shape.shared_words` says, which all threads of a block see;
and a macro `BARRIER()`, behind which each thread of a block sees what the others have written.

A thread belongs to one lane, and within it works on some columns: on elements `column`, `column + COLUMNS` and so on of
vectors and of each row of matrices, so that all places but the first are known when the text is compiled. Each thread
adds up by itself what its element needs. So no sum depends on the number of threads: results are the same to the bit.
"""

from collections.abc import Sequence

from zero_jax.executors.fusion import ALL_OPS, Superinstruction
from zero_jax.executors.gpu.layout import Shape
from zero_jax.program.ops import Op

ARGUMENTS: dict[str, str] = {
    "sizes": "int", "seed": "unsigned", "limit": "float", "rows": "int", "lengths": "int",
    "order": "int", "x": "float", "y": "float", "ids": "int", "before": "float",
}  # fmt: skip
"""What a kernel reads, and the type of its elements in C, for `P` programs of `L` slots on `G` groups of tasks:

  sizes: `[5]` T, N, K, E, and whether runs begin with the memory in `before`.
  seed, limit: `[1]` of the random stream; the error beyond which a run stops.
  rows: `[P, L, 8]` op, in1, in2 and out, operands as places in a block's memory, in words; then the bits of the three
    constants, of which the third of a random op is its ordinal, or two more operands of a superinstruction.
  lengths: `[P, 3]` instructions in use, the first negative where there is no program.
  order: `[E, N + K]` where the examples of each epoch lie in the next two.
  x, y: `[N + K, G, F, lanes]` and `[N + K, G, lanes]`.
  ids: `[G * lanes]` task ids.
  before: `[P * G, words]` the memory of each block, or `[1, 1]`."""

RESULTS: dict[str, str] = {"fitness": "float", "steps": "int", "errors": "float", "after": "float"}
"""What a kernel fills:

  fitness, steps: `[P, G * lanes]`.
  errors: `[P, E * (N + K), G * lanes]` with `Shape.errors`, else `[1, 1, 1]`.
  after: `[P * G, words]` the memory that runs leave, and the place of all memory that does not fit a multiprocessor;
    `[1, 1]` where neither is wanted (`Shape.keeps_memory`)."""


def body(shape: Shape, ops: Sequence[Op | Superinstruction] = ALL_OPS[1:]) -> str:
    """The text for one shape, and for all ops or some of them; others do nothing."""
    if shape.component is not None:
        parts = _ONCE.replace("@COMPONENT@", str(shape.component))
    else:
        label, judge = (_CLASS_LABEL, _CLASS_JUDGE) if shape.classes else (_LABEL, _JUDGE if shape.accuracy else _ERROR)
        parts = _TRAIN.replace("@LABEL@", label).replace("@JUDGE@", judge)
        parts = parts.replace("@FITNESS@", _SHARE_RIGHT if shape.accuracy else RMSE)
    numbers = {
        "F": shape.features, "ROW": shape.row, "LANES": shape.lanes, "GROUPS": shape.groups, "THREADS": shape.threads,
        "COLUMNS": shape.columns, "TURNS": shape.turns,
        "SLOTS": shape.slots[-1] + 1, "PREDICT_AT": shape.slots[1], "LEARN_AT": shape.slots[2],
        "VECTORS_AT": shape.starts[1], "WORDS": shape.memory_words, "IN_SHARED": int(shape.in_shared),
        "CODE_IN_SHARED": int(shape.code_in_shared), "STATE_WORDS": shape.state_words,
        "KEEPS_MEMORY": int(shape.keeps_memory),
        "SCRATCH_AT": shape.starts[-1],
        "ERRORS": int(shape.errors), "CLASSES": shape.classes,
    }  # fmt: skip
    given = ", ".join(f"{name} = {number}" for name, number in numbers.items())
    cases = "".join(_case(shape, op) for op in ops)
    return f"enum {{ {given} }};\n{_MACROS}{_BEGIN}{parts.replace('@RUN@', _RUN.replace('@CASES@', cases))}{_END}"


# ---------------------------------------------------------------------------------------------- the ops

_PLACES = {"s": "[lane]", "v": "[i * LANES + lane]", "m": "[(i * ROW + j) * LANES + lane]"}

_TWO_PHASES = frozenset({"MATRIX_VECTOR_PRODUCT", "MATRIX_TRANSPOSE", "MATRIX_MATRIX_PRODUCT", "MATVEC_SUM"})
"""The ops whose output may be an input of which one thread reads elements that another one writes."""

_AT_ONCE = 16
"""How many elements of its own a thread reads and computes before it writes the first: more hide latency, and take
registers and instructions. (A compiler cannot do that by itself, since an output may be an input.)"""


def _case(shape: Shape, op: Op | Superinstruction) -> str:
    """An op's branch of the switch."""
    out = "OUT" + _PLACES[op.output]
    element = f"{_operands(op)}{_draws(op)}float o = {out if op.reads_output else '0.0f'}; {op.c}"
    work = f"SCALAR({element} {out} = o;)" if op.output == "s" else _elements(shape, op, element, out)
    return f"  case {op.number}: {{  // {op.name}\n    {_constants(op)}{work}\n    break;\n  }}\n"


def _elements(shape: Shape, op: Op | Superinstruction, element: str, out: str) -> str:
    """The loops over a thread's own elements of a vector or matrix: some are computed and kept, then written."""
    each, own = ("ELEMENTS", shape.turns) if op.output == "v" else ("CELLS", shape.features * shape.turns)
    two_phases = op.name in _TWO_PHASES
    at_once = own if two_phases else 1 if _long(op) else min(_AT_ONCE, own)
    unrolled = 1 if _long(op) else _AT_ONCE
    place, declared = "[n]", f"float kept[{at_once}];"
    if two_phases and op.output == "m" and shape.needs_scratch:
        place, declared = "[(i * ROW + j) * LANES + lane]", "float *const kept = scratch;"
    return (
        f"UNROLL(1)\n    for (int from = 0; from < {own}; from += {at_once}) {{\n"
        f"      {declared}\n"
        f"      {each}({unrolled}, {at_once}, {element} kept{place} = o;)\n"
        f"      {'BARRIER();' if two_phases else ''}\n"
        f"      {each}({unrolled}, {at_once}, {out} = kept{place};)\n"
        f"    }}"
    )


def _long(op: Op | Superinstruction) -> bool:
    """Whether one element takes many machine instructions, or all that are kept would take too many registers."""
    keeps_matrix = op.name in _TWO_PHASES and op.output == "m"
    return op.random or keeps_matrix or op.name.endswith("ST_DEV") or "for (r" in op.c


def _operands(op: Op | Superinstruction) -> str:
    """What the op's statement reads of its inputs at the output's place."""
    read = ""
    for name, kind in zip("abcd", op.inputs, strict=False):
        if kind == "s" or (kind == op.output and f"{kind.upper()}{name.upper()}(" not in op.c):
            read += f"const float {name} = {name.upper()}{_PLACES[kind]}; "
    return read


def _constants(op: Op | Superinstruction) -> str:
    """The op's constants and, of a random one, its ordinal; of a superinstruction its other operands."""
    if isinstance(op, Superinstruction):
        more = "CD"[: len(op.inputs) - 2]
        return "".join(f"const float *const {name} = memory + row[{4 + i}]; " for i, name in enumerate(more))
    used = [*range(len(op.constants)), *([2] * op.random)]
    return "".join(f"const float c{i} = ((const float *)row)[{4 + i}]; " for i in used)


def _draws(op: Op | Superinstruction) -> str:
    """Two uniform draws for this element, where the op is a random one (`stream.draws`)."""
    if not op.random:
        return ""
    element = {"s": "0u", "v": "(unsigned)i", "m": "(unsigned)(i * F + j)"}[op.output]
    return f"DRAW({element}) "


# ---------------------------------------------------------------------------------------------- the frame

_MACROS = r"""
#if defined(__CUDA_ARCH__)
#define UNROLL(n) _Pragma(ZERO_TEXT(unroll n))
#define ZERO_TEXT(text) #text
#define DECREMENT(p) atomicSub(p, 1)
#define HEAD(row) int4 head = *(const int4 *)(row)  // which lies where one load of 16 bytes may
#else
#define UNROLL(n)
#define DECREMENT(p) (--*(p))
#define HEAD(row) struct { int x, y, z, w; } head = {(row)[0], (row)[1], (row)[2], (row)[3]}
#endif
#define SCALAR(...) \
  if (column == 0) { __VA_ARGS__ }
#define ELEMENTS(unrolled, at_once, ...)                                          \
  if (column < COLUMNS) {                                                         \
    UNROLL(unrolled)                                                              \
    for (int n = 0; n < at_once; n++) {                                           \
      const int turn = from + n, i = column + turn * COLUMNS;                     \
      if ((F % COLUMNS == 0 && TURNS % at_once == 0) || i < F) { __VA_ARGS__ }    \
    }                                                                             \
  }
#define CELLS(unrolled, at_once, ...)                                             \
  if (column < COLUMNS) {                                                         \
    UNROLL(unrolled)                                                              \
    for (int n = 0; n < at_once; n++) {                                           \
      const int turn = from + n;                                                  \
      const int i = turn / TURNS, j = column + turn % TURNS * COLUMNS;            \
      (void)i;                                                                    \
      if (F % COLUMNS == 0 || j < F)                                              \
        if (F * TURNS % at_once == 0 || i < F) { __VA_ARGS__ }                    \
    }                                                                             \
  }
#define VA(x) A[(x) * LANES + lane]
#define VB(x) B[(x) * LANES + lane]
#define MA(x, y) A[((x) * ROW + (y)) * LANES + lane]
#define MB(x, y) B[((x) * ROW + (y)) * LANES + lane]
#define VC(x) C[(x) * LANES + lane]
#define DRAW(element)                                                                       \
  unsigned d0 = seed[0], d1 = (unsigned)ids[group * LANES + lane], d2 = element;            \
  unsigned d3 = count << 10 | (unsigned)(int)c2 << 2 | (unsigned)component;                 \
  d0 = d0 * 1664525u + 1013904223u; d1 = d1 * 1664525u + 1013904223u;                       \
  d2 = d2 * 1664525u + 1013904223u; d3 = d3 * 1664525u + 1013904223u;                       \
  d0 += d1 * d3; d1 += d2 * d0; d2 += d0 * d1; d3 += d1 * d2;                               \
  d0 ^= d0 >> 16; d1 ^= d1 >> 16; d2 ^= d2 >> 16; d3 ^= d3 >> 16;                           \
  d0 += d1 * d3; d1 += d2 * d0;                                                             \
  const float u = (float)(int)(d0 >> 8) * 5.9604644775390625e-8f;                           \
  const float w = (float)(int)(d1 >> 8) * 5.9604644775390625e-8f; (void)w;
"""

_BEGIN = """
const int program = block / GROUPS, group = block % GROUPS, lane = thread % LANES, column = thread / LANES;
int *const length = (int *)shared, *const seen = length + 3, *const alive = seen + LANES, *const living = alive + LANES;
float *const lost = shared + 4 + 2 * LANES, *const best = lost + LANES;
int *const own = (int *)(best + LANES);
float *const memory = IN_SHARED ? shared + STATE_WORDS : after + (size_t)block * WORDS;
float *const scratch = memory + (size_t)SCRATCH_AT * LANES;
(void)scratch;
float *const scalars = memory, *const vectors = memory + VECTORS_AT * LANES;
const int *const its_rows = rows + (size_t)program * (8 * SLOTS);
if (CODE_IN_SHARED)
  for (int e = thread; e < 8 * SLOTS; e += THREADS) own[e] = its_rows[e];
const int *const code = CODE_IN_SHARED ? own : its_rows;
for (int e = thread; e < 3; e += THREADS) length[e] = lengths[3 * program + e];
for (int e = thread; e < WORDS; e += THREADS) memory[e] = sizes[4] ? before[(size_t)block * WORDS + e] : 0.0f;
"""

_RUN = """
const int first = component == 0 ? 0 : component == 1 ? PREDICT_AT : LEARN_AT, end = first + length[component];
UNROLL(1)
for (int slot = first; slot < end; slot++) {
  const int *const row = code + 8 * slot;
  const HEAD(row);
  const float *const A = memory + head.y, *const B = memory + head.z;
  float *const OUT = memory + head.w;
  int k, r;
  (void)A; (void)B; (void)k; (void)r;
  switch (head.x) {
@CASES@  default:
    break;
  }
  BARRIER();
}
"""

_ONCE = """
BARRIER();
const int component = @COMPONENT@;
const unsigned count = 0u;
@RUN@
"""

_TRAIN = """
const int train = sizes[1], examples = train + sizes[2], epochs = sizes[3];
SCALAR(lost[lane] = 0.0f; best[lane] = 0.0f; seen[lane] = 0;
       alive[lane] = group * LANES + lane < sizes[0] && lengths[3 * program] >= 0;)
if (thread == 0) {
  const int left = sizes[0] - group * LANES;
  living[0] = lengths[3 * program] < 0 ? 0 : left < LANES ? left : LANES;
}
const size_t runs = (size_t)epochs * examples, all_lanes = GROUPS * LANES, first_lane = group * LANES;
float *const its_errors = ERRORS ? errors + program * runs * all_lanes + first_lane : errors;
if (ERRORS)
  for (size_t n = 0; n < runs; n++) SCALAR(its_errors[n * all_lanes + lane] = 0.0f;)
BARRIER();
int component = 0, epoch = 0, example = 0;
while (epoch < epochs) {
  const size_t at = (size_t)order[epoch * examples + example] * GROUPS + group;
  const int from = 0;
  ELEMENTS(16, TURNS, vectors[i * LANES + lane] = component == 0 ? 0.0f : x[(at * F + i) * LANES + lane];)
  @LABEL@
  BARRIER();
  if (living[0] == 0) break;  // the barrier of an instruction keeps it from changing before all threads have read it
  if (length[component] == 0) BARRIER();
  const unsigned count = (unsigned)(epoch * (component == 2 ? train : examples) + example);
@RUN@
  const bool training = example < train;
  if (component == 1) {
    SCALAR(const float label = y[at * LANES + lane];
           @JUDGE@
           if (alive[lane]) {
             if (ERRORS) its_errors[((size_t)epoch * examples + example) * all_lanes + lane] = error;
             if (training) seen[lane]++; else lost[lane] += loss;
             if (!fine) { alive[lane] = 0; DECREMENT(living); }
           })
  }
  if (component == 1 && training) {
    component = 2;
  } else {
    example += component != 0;
    component = 1;
  }
  if (example == examples) {
    SCALAR(if (alive[lane]) {
             const float mean = lost[lane] / (float)sizes[2];
             const float fitness_now = @FITNESS@;
             best[lane] = best[lane] < fitness_now ? fitness_now : best[lane];
           }
           lost[lane] = 0.0f;)
    example = 0;
    epoch++;
  }
}
SCALAR(const size_t place = program * all_lanes + first_lane + lane; fitness[place] = best[lane];
       steps[place] = seen[lane];)
"""

_END = """
if (KEEPS_MEMORY && IN_SHARED)
  for (int e = thread; e < WORDS; e += THREADS) after[(size_t)block * WORDS + e] = memory[e];
"""

_LABEL = "SCALAR(scalars[lane] = component == 2 ? y[at * LANES + lane] : 0.0f;)"

_CLASS_LABEL = """ELEMENTS(16, TURNS, vectors[(F + i) * LANES + lane] =
           component == 2 && (float)i == y[at * LANES + lane] ? 1.0f : 0.0f;)"""

_ERROR = """const float error = label - scalars[LANES + lane], loss = error * error;
         const bool fine = fabsf(error) <= limit[0];"""

_JUDGE = """const float logit = scalars[LANES + lane], probability = 1.0f / (1.0f + expf(-logit));
         if (training) scalars[LANES + lane] = probability;
         const float error = label - probability, loss = (logit > 0.0f) != (label > 0.5f) ? 1.0f : 0.0f;
         const bool fine = !training || fabsf(error) <= limit[0];"""

_CLASS_JUDGE = """float *const logits = vectors + 2 * F * LANES + lane;
         float top = logits[0], sum = 0.0f, away = 0.0f, highest = 0.0f;
         int predicted = 0, usable = 0, undefined = 0;
         for (int c = 0; c < CLASSES; c++) {
           const float logit = logits[c * LANES];
           if (!(top >= logit)) top = logit;
           if (logit == logit && (!usable || logit >= highest)) { highest = logit; predicted = c; usable = 1; }
         }
         for (int c = 0; c < CLASSES; c++) sum += expf(logits[c * LANES] - top);
         for (int c = 0; c < CLASSES; c++) {
           const float probability = expf(logits[c * LANES] - top) / sum;
           const float far = fabsf(((float)c == label ? 1.0f : 0.0f) - probability);
           if (far != far) undefined = 1;
           if (far > away) away = far;
           if (training) logits[c * LANES] = probability;
         }
         const float error = undefined ? sqrtf(-1.0f) : away, loss = (float)predicted == label ? 0.0f : 1.0f;
         const bool fine = !training || fabsf(error) <= limit[0];"""

RMSE = "1.0f - 0.63661977236758134f * atanf(sqrtf(mean))"
_SHARE_RIGHT = "1.0f - mean"
