"""Which equations conserve the mean over periodic axes, as far as their form shows."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Derivative
from .graph import Graph


def is_divergence(graph: Graph, node: int, features: Mapping[str, Derivative]) -> bool:
    """Whether a residual is a sum of time derivatives and derivatives along axes, with constant factors.

    Products g(u) u_x of functions of one field with its own slope count; others, such as a flow's u·∇w, are not seen.
    """
    constant: dict[int, bool] = {}  # depends on parameters alone
    of_field: dict[int, frozenset[str] | None] = {}  # the fields that it depends on; None where derivatives come in
    exact: dict[int, bool] = {}
    slope: dict[int, str | None] = {}  # the field whose first derivative in space it is, times a function of the field
    for own in graph.needed([node]):
        operation, *arguments = graph.nodes[own]
        constant[own], of_field[own], exact[own], slope[own] = False, None, False, None
        if operation == "number" or (operation == "name" and arguments[0].kind == "parameter"):
            constant[own], of_field[own] = True, frozenset()
        elif operation == "name":
            if arguments[0].kind == "feature":
                feature = features[arguments[0].key]
                space = sum(order for axis, order in feature.orders.items() if axis != "t")
                exact[own] = bool(feature.orders) or feature.laplacian > 0
                if not feature.orders and not feature.laplacian:
                    of_field[own] = frozenset([feature.field])
                elif space == 1 and "t" not in feature.orders and not feature.laplacian:
                    slope[own] = feature.field
        else:
            parts = [of_field[a] for a in arguments]
            constant[own] = all(constant[a] for a in arguments)
            known = [part for part in parts if part is not None]
            of_field[own] = frozenset[str]().union(*known) if len(known) == len(parts) else None
            if operation == "negative":
                exact[own], slope[own] = exact[arguments[0]], slope[arguments[0]]
            elif operation in ("+", "-"):
                exact[own] = all(exact[a] or graph.constant(a) == 0 for a in arguments)
            elif operation in ("*", "/"):
                pairs = [arguments] if operation == "/" else [arguments, arguments[::-1]]
                for first, second in pairs:
                    exact[own] |= exact[first] and constant[second]
                    fields = of_field[second]
                    if slope[first] and fields is not None and fields <= {slope[first]}:
                        slope[own] = slope[first]
            exact[own] |= slope[own] is not None
    return exact[node]
