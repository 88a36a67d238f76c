"""A folder of compiled programs that several processes share."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from linreg_jax import half_sse
from tests.support import make_problem


def test_a_program_that_is_half_written_is_compiled_again(tmp_path: Path) -> None:
    """jax warns of it, and the suite makes every other warning an error."""
    before = {
        name: getattr(jax.config, name)
        for name in (
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes",
        )
    }
    params, data = make_problem(0, n=5, d=2)
    values = []
    try:
        for name, value in zip(before, (str(tmp_path), 0, -1), strict=True):
            jax.config.update(name, value)
        for _ in range(2):
            compilation_cache.reset_cache()
            values.append(float(jax.jit(lambda p: half_sse(p, data) + jnp.pi)(params)))
            programs = list(tmp_path.glob("*-cache"))
            assert programs
            for program in programs:
                program.write_bytes(program.read_bytes()[:100])
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    assert values[0] == values[1]
