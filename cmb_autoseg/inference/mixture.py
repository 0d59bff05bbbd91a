"""A model that joins models of other recipes, which lie in its own folder."""

from collections.abc import Collection, Mapping
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.ensemble import Ensemble, Prediction, checkpoint_path
from cmb_autoseg.inference.loading import load_inner
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role
from cmb_autoseg.trainers.mixture.mixing import Mixing, member_copy

__all__ = ["MixtureEnsemble"]


class MixtureEnsemble(Ensemble):
    """Weighted mean, or votes, of the members; each member joins its own folds first, as it does by itself.

    A case that lacks every sequence of a member is predicted by the others.
    """

    mixing: Mixing
    """Mean of the folds' weights and thresholds."""
    members: tuple[Ensemble, ...]
    """In the order of `mixing.members`."""

    def _load(self) -> None:
        contents = {fold: self.checkpoint(fold) for fold in self.folds}
        self.mixing = Mixing.averaged([_mixing(content["mixing"]) for content in contents.values()])
        self.members = tuple(load_inner(self, member_copy(self.folder, name)) for name in self.mixing.members)
        for fold, content in contents.items():
            for name, member in zip(self.mixing.members, self.members, strict=True):
                if member.digests[fold] != content["checkpoints"][name]:
                    path = checkpoint_path(member.folder, fold)
                    raise InputError(f"{path}: another one than fold {fold} was made with; copy the model again, whole")
        known = {role for member in self.members for role in member.channels}
        self.channels = tuple(role for role in self.channels if role in known)

    def predict(self, volumes: Mapping[Role, Volume]) -> Prediction:
        """See `Ensemble.predict`."""
        known = self.known(volumes)
        able = [index for index, member in enumerate(self.members) if member.sees(known)]
        if not able:
            needed = sorted({role.value for role in self.channels} & {role.value for role in SUSCEPTIBILITY_ROLES})
            raise InputError(
                f"{next(iter(volumes.values())).name}: has {', '.join(volumes)}, but every member of the model needs "
                f"at least one of {', '.join(needed)}"
            )
        mixing = self.mixing.of(able)
        used = [place for place, weight in enumerate(mixing.weights) if weight > 0]
        mixing = mixing.of(used)
        maps = [self.members[able[place]].probability(known) for place in used]
        return Prediction(maps[0].with_data(mixing.map_of([own.data for own in maps])))

    def sees(self, roles: Collection[Role]) -> bool:
        """See `Ensemble.sees`; one member is enough."""
        return any(member.sees(roles) for member in self.members)

    @property
    def n_parameters(self) -> int:
        return sum(member.n_parameters for member in self.members)


def _mixing(content: Mapping[str, Any]) -> Mixing:
    """As `train_mixture` writes it."""
    return Mixing(
        "vote" if content["combine"] == "vote" else "mean",
        tuple(content["members"]),
        tuple(content["weights"]),
        tuple(content["thresholds"]),
        float(content["common"]),
    )
