"""`Prediction`: what ``predict`` returns. Arrays are of the caller's kind, numpy or torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import to_numpy
from ..files import save_npz
from ..text import nearest
from .fields import LazyField, StoredField
from .prediction_file import REPORT, from_arrays, to_arrays

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

_ERRORS = ("residual", "estimated_error")  # maps of all fields


@dataclass(repr=False)
class Prediction:
    """A solution with its trust report.

    ``out[i]`` is that of one trajectory, ``out[2:5]`` that of some; the batch axis stays. ``out["v"]`` are the values
    (batch, time, *space) of the field v, `of_field` is the prediction of it alone.

    Attributes:
        u: (batch, time, *space) solution, of a system (batch, time, *space, field), float64; NaN where it failed.
        t: (time,) output times.
        points: output positions by axis name, in the order of u's dimensions; ``x`` is that of the axis "x".
        u0: (batch, *space[, field]) the initial conditions as given.
        parameters: (batch,) values by symbol.
        coefficients: (batch, subproblem, coefficient) of the basis functions.
        residual: (batch,) relative L2 norm of the mapped residual, of a system over all its fields, dimensionless.
        residual_per_expert: (batch, expert) its part in each expert's subdomain.
        estimated_error: (batch,) estimated relative L2 error, dimensionless, from the residual on a
            finer grid.
        status: (batch, subproblem) integers of `pihc_zoo.Status`; converged: likewise, booleans.
        iterations: (batch, subproblem) solver steps.
        messages: per trajectory, why it is not reliable, reasons joined by "; "; empty if it is.
        unresolved: (batch,) relative L2 part of the initial condition that the model's grid does not
            carry or that its points do not determine, dimensionless.
        is_reliable: (batch,) converged, no reason of `Trust.reasons`, and all times within the trained duration.
        is_polished: (batch,) whether Newton's method for all nodal values went on from the experts' answer.
        failure_time: (batch,) time from which on a roll-out has no values; NaN if it has all, or none.
        units: physical units of the fields, the coordinates and the parameters by name.
        fields: names of the fields, of a system in the order of u's last axis.
        symbol: name of the first field.
        signed_fields: names of those whose range has both signs.
        periods: lengths of the periodic axes by name.
        series: names of the parameters that are series over time, (batch, native time).
        diagnostics: what `diagnostic` computes, name → (factor, derivative of u).
        field_maps: fields at the output points that are read when asked for, by name.
    """

    u: Any
    t: Any
    points: dict[str, Any]
    u0: Any
    parameters: dict[str, Any]
    coefficients: Any
    residual: Any
    residual_per_expert: Any
    estimated_error: Any
    unresolved: Any
    status: Any
    converged: Any
    iterations: Any
    is_reliable: Any
    is_polished: Any
    failure_time: Any
    messages: list[str]
    model: str = ""
    units: dict[str, str] = field(default_factory=dict)
    symbol: str = "u"
    fields: tuple[str, ...] = ("u",)
    signed_fields: tuple[str, ...] = ()
    periods: dict[str, float] = field(default_factory=dict)
    series: tuple[str, ...] = ()
    diagnostics: dict[str, tuple[float, Any]] = field(default_factory=dict)
    field_maps: dict[str, LazyField | StoredField] = field(default_factory=dict)

    def __repr__(self) -> str:
        last = ("/".join(self.fields),) if self.is_system else ()
        axes, shape = ", ".join(("batch", "t", *self.points, *last)), tuple(self.u.shape)
        count = int(to_numpy(self.is_reliable).sum())
        return f"Prediction({self.model!r}: u {shape} over ({axes}), {count} of {len(self)} reliable)"

    def __len__(self) -> int:
        return len(self.u)

    @property
    def is_system(self) -> bool:
        """Whether there are several fields."""
        return len(self.fields) > 1

    def __getitem__(self, rows: str | int | slice | Sequence[int] | np.ndarray) -> Any:
        """The prediction of the i-th trajectory, or of those that a slice, a list or a mask picks; a field's values.

        Raises:
            ValueError: no such field.
            IndexError: no such trajectory.
        """
        if isinstance(rows, str):
            place = self._place(rows)
            return self.u[..., place] if self.is_system else self.u
        picked = np.atleast_1d(np.arange(len(self))[rows])
        if picked.ndim > 1:
            raise IndexError("a prediction has one index, that of its trajectories")
        own = {key: getattr(self, key)[picked] for key in ("u0", "u", *REPORT)}
        return replace(
            self,
            **own,
            parameters={key: value[picked] for key, value in self.parameters.items()},
            messages=[self.messages[i] for i in picked],
            field_maps={key: values[picked] for key, values in self.field_maps.items()},
        )

    def of_field(self, name: str) -> Prediction:
        """The prediction of one field of a system, arrays without the last axis; the report stays that of all fields.

        Raises:
            ValueError: no such field.
        """
        place = self._place(name)
        if not self.is_system:
            return self
        return replace(
            self,
            u=self.u[..., place],
            u0=self.u0[..., place],
            symbol=name,
            fields=(name,),
            units={**self.units, "u": self.units.get(name, "dimensionless")},
            diagnostics={key: own for key, own in self.diagnostics.items() if own[1].field == name},
            field_maps={
                key: values.component(place) if key in _ERRORS else values for key, values in self.field_maps.items()
            },
        )

    def _place(self, name: str) -> int:
        if name not in self.fields:
            raise ValueError(f"no field {name!r}; {nearest(name, self.fields)}")
        return self.fields.index(name)

    @property
    def x(self) -> Any:
        """(n,) output positions along the axis "x"."""
        return self.points["x"]

    @property
    def residual_field(self) -> Any:
        """(batch, time, *space[, field]) mapped residual at the output points, in the unit of u."""
        return self._field("residual")

    @property
    def estimated_error_field(self) -> Any:
        """(batch, time, *space[, field]) estimated u − u_true at the output points."""
        return self._field("estimated_error")

    def _field(self, name: str) -> Any:
        if name not in self.field_maps:
            raise ValueError(f"{name}_field is not kept in files; predict again for it")
        return self.field_maps[name]()

    def diagnostic(self, name: str) -> Any:
        """(batch, time, *space) a further field of the problem, such as the velocity, computed spectrally from u.

        Args:
            name: one of ``diagnostics``.

        Raises:
            ValueError: no such field, or output points that are no full equally spaced periodic grid.
        """
        from ..spectra import check_periodic_grid, derivative

        if name in self.field_maps and name not in self.diagnostics:  # read from a file
            return self.field_maps[name]()
        if name not in self.diagnostics:
            if not self.diagnostics:
                raise ValueError(f"no diagnostic {name!r}; this problem has none")
            raise ValueError(f"no diagnostic {name!r}; {nearest(name, self.diagnostics)}")
        try:
            lengths = check_periodic_grid({key: to_numpy(value) for key, value in self.points.items()}, self.periods)
        except ValueError as error:
            raise ValueError(f"diagnostic {name!r}: {error}") from None
        factor, feature = self.diagnostics[name]
        orders = [feature.orders.get(key, 0) for key in self.points]
        u = to_numpy(self[feature.field] if self.is_system else self.u)
        result = np.empty(u.shape)
        for i, row in enumerate(u):  # one by one: transforms are twice as large
            result[i] = derivative(row, lengths, orders, feature.laplacian, factor)
        return self.u.new_tensor(result) if hasattr(self.u, "new_tensor") else result

    def save(self, path: str | os.PathLike, diagnostics: Sequence[str] = (), *, compress: bool = False) -> Path:
        """Writes an NPZ, atomically: u0, positions by axis name, t, u, parameter_<name>, the report and its texts.

        Args:
            path: a name that ends in .npz, which is added if it is missing.
            diagnostics: names of `diagnostic` to write as well.
            compress: smaller by a tenth or so, at many times the time.

        Raises:
            ValueError: the folder cannot be written, the path names another kind of file, or no such diagnostic.
        """
        known = [name for name in self.field_maps if name not in _ERRORS]  # from a file
        arrays = to_arrays(self, {name: self.diagnostic(name) for name in dict.fromkeys([*known, *diagnostics])})
        return save_npz(path, {key: to_numpy(value) for key, value in arrays.items()}, compress)

    def to_xarray(self, diagnostics: Sequence[str] = ()) -> xarray.Dataset:
        """The prediction as an xarray Dataset, for labelled arithmetic, netCDF and Zarr.

        >>> out.to_xarray().u.sel(time=100.0, method="nearest").mean("x")

        ``u`` has the dimensions batch, time and the space axes, with coordinates ``time`` and those of the axes.
        Names of the report, and parameter_<name>, are those of `save`'s files. ``u0`` has the dimensions batch and
        <axis>_input, for it may lie at other points. Of a system each field is a variable by its name, its initial
        values <name>0. Units are attributes (``units``; "1" where dimensionless).

        Args:
            diagnostics: names of `diagnostic` to add as variables.

        Raises:
            ValueError: xarray is not installed, or no such diagnostic.
        """
        from ..labelled import to_dataset

        return to_dataset(self, diagnostics)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Prediction:
        """Reads what `save` wrote; fields that a file does not keep raise when they are asked for.

        Raises:
            ValueError: no such file, or not a saved prediction.
        """
        from ..data import read_arrays

        path = Path(path)
        if path.suffix != ".npz" and not path.is_file():
            path = path.with_name(path.name + ".npz")  # as `save` does
        return cls(**from_arrays(read_arrays(path), repr(str(path))))

    def plot(
        self, index: int = 0, path: str | os.PathLike | None = None, truth: Any = None, field: str | None = None
    ) -> Figure:
        """Draws prediction and estimated error of one trajectory, beside the ``truth`` if given; saves it to ``path``.

        Of a system every field has a row, or one ``field`` the whole figure. See `pihc_zoo.plotting.plot_prediction`.
        """
        from ..plotting import plot_prediction

        return plot_prediction(self, index, path, truth, field)

    def animate(
        self, index: int = 0, path: str | os.PathLike | None = None, fps: int = 12, field: str | None = None
    ) -> Path:
        """Writes one trajectory as a GIF, by default ``<model>.gif`` in the working folder; returns its path.

        Of a system all fields side by side, or one ``field``.
        """
        from ..animation import animate_prediction

        path = path or f"{self.model.split('/')[-1] or 'prediction'}.gif"
        return animate_prediction(self if field is None else self.of_field(field), index, path, fps)
