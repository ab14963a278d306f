"""What of a model is watched, and what it is to be changed by: all that is known before a run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from grulens.cells.observed import ObservedCell
from grulens.cells.signal import Signalling
from grulens.errors import EditError, shown
from grulens.models.call.call import Key
from grulens.models.call.place import EditLike
from grulens.models.instrument.watchable import Watchable
from grulens.models.layers import check_layer, check_signal, named, not_known
from grulens.models.observe.form import ObservedForm
from grulens.models.observe.reading.observing import cell_of


class Watched:
    """The layers of a model that are recorded, and those that are changed.

    Args:
        watchable: what of the user's model there is to watch.
        edits: what to change, in order.
        keep: the layers to record; empty is all of them, None records nothing.
        may_observe: whether there may be more observed cells than is known yet.

    Attributes:
        model: the user's model.
        found: its parts that are opened by their weights, or like such.
        observed: the cells that are read in their module's own forward, by name.
        new: whether the observed cells were looked for in this very run.
        before: what the model returned then; None where that is not known.
        names: of each opened module its layers' names.

    Raises:
        NoLayerError, UnsupportedLayerError: there is nothing to watch.
        LayerError: an edit or `keep` names a layer that is not there.
        PositionError, EditError: an edit does not fit its layer.
    """

    def __init__(
        self,
        watchable: Watchable,
        edits: Sequence[EditLike],
        *,
        keep: Sequence[str] | None,
        may_observe: bool,
    ) -> None:
        self.edits, self.keep = tuple(edits), keep
        self.model, self.found, observed, self.new, self.before = watchable
        if not (self.found.opened or observed or may_observe):
            raise not_known(self.model, self.found)
        self.observed: dict[str, ObservedForm] = {}
        self.seen_cells: dict[str, ObservedCell] = {}
        if observed:
            self.learn(observed)
        self.modules, self.adapters = self.found.opened, self.found.adapters
        layers = {
            module: named(path, module, self.adapters[module])
            for path, module in self.modules.items()
        }
        self.names = {
            m: {key: name for key, (name, _) in all_.items()} for m, all_ in layers.items()
        }
        self._by_layer: dict[str, list[EditLike]] = {}
        for edit in self.edits:
            if not isinstance(edit, EditLike):
                raise EditError(
                    f"an edit is what ablate, clamp, scale, shift and patch make, got {shown(edit)}"
                )
        cells: dict[str, Signalling] = dict(self.seen_cells)
        cells |= {name: cell for all_ in layers.values() for name, cell in all_.values()}
        for name in (*(edit.layer for edit in self.edits), *(keep or ())):
            check_layer(name, list(cells), model=self.model)
        for edit in self.edits:
            edit.check_units(cells[edit.layer].hidden_size)
            check_signal(edit.signal, cells[edit.layer], edit.layer)
            self._by_layer.setdefault(edit.layer, []).append(edit)

    def learn(self, forms: Sequence[ObservedForm]) -> None:
        """Know more cells that are read in their module's own forward."""
        modules = dict(self.model.named_modules())
        for form in forms:
            self.observed[form.name] = form
            self.seen_cells[form.name] = cell_of(form, type(modules[form.path]).__name__)

    def place_of(self, layer: str) -> tuple[nn.Module, Key]:
        """The module of an opened layer, and its level and direction there."""
        places = ((module, key) for module, names in self.names.items() for key in names)
        return next((m, key) for m, key in places if self.names[m][key] == layer)

    @property
    def relative(self) -> list[str]:
        """The layers whose edits refer to an unedited run."""
        return [edit.layer for edit in self.edits if edit.relative]

    def keeps(self, module: nn.Module) -> bool:
        """Whether calls of this module are recorded."""
        if self.keep is None:
            return False
        return not self.keep or any(name in self.keep for name in self.names[module].values())

    def edits_at(self, module: nn.Module, key: Key) -> Sequence[EditLike]:
        """The edits of one level and direction of a module."""
        return self._by_layer.get(self.names[module][key], ())

    def edits_here(self, module: nn.Module) -> bool:
        """Whether any layer of a module is edited."""
        return bool(self._by_layer) and any(self.edits_at(module, k) for k in self.names[module])
