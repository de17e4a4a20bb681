"""What capture needs of a backend beyond `keras.ops`, for the one in use.

Which arrays belong to the step that is watched, a branch, how to count, the parts of
a gradient, the way to NumPy. `tf_arrays`, `jax_arrays` and `torch_arrays` have the same functions.
"""

from __future__ import annotations

import keras

# mypy takes the first branch, and the others' functions have its types.
if keras.backend.backend() == "tensorflow":
    from tb_batchview.capture.tf_arrays import (
        Scene,
        add_parts,
        choose,
        count,
        is_array,
        is_merged,
        keep,
        look_aside,
        to_numpy,
    )
elif keras.backend.backend() == "jax":
    from tb_batchview.capture.jax_arrays import (  # type: ignore[assignment]
        Scene,
        add_parts,
        choose,
        count,
        is_array,
        is_merged,
        keep,
        look_aside,
        to_numpy,
    )
else:
    from tb_batchview.capture.torch_arrays import (  # type: ignore[assignment]
        Scene,
        add_parts,
        choose,
        count,
        is_array,
        is_merged,
        keep,
        look_aside,
        to_numpy,
    )

__all__ = ["Scene", "add_parts", "choose", "count", "is_array", "is_merged", "keep", "look_aside", "to_numpy"]
