"""
Pruning a search: bad trials end early
======================================

A grid trains every candidate to its end. Optuna looks at the validation loss after each epoch, and
ends the trials that fall behind: the penalty weight and the learning rate are searched together in
a fraction of the epochs. All it takes is a skorch callback, which the estimators hand on.
"""

# %%
# Setting up
# ----------
# 320 training images of scikit-learn's digits, a fifth of which validates; all others are for the
# test.

import argparse
import warnings

import matplotlib.pyplot as plt
import optuna
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from sktangent import TangentPropClassifier
from sktangent.tangents import ImageTangents

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="A search that prunes on the validation loss.")
parser.add_argument("--out", default="optuna_pruning.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="a small run")
arguments = parser.parse_args()
n_trials, n_epochs = (6, 10) if arguments.quick else (40, 60)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, train_size=320, stratify=y, random_state=0
)

# %%
# Telling Optuna
# --------------
# After every epoch the callback reports the validation loss, and asks whether to go on. It raises
# what Optuna ends a trial with; the loss itself is the data term, without the penalty, so that
# trials of different weights compare.


class Pruning(Callback):
    """Report the validation loss of each epoch to a trial, and end it if it is behind."""

    def __init__(self, trial):
        self.trial = trial

    def on_epoch_end(self, net, **kwargs):
        self.trial.report(net.history[-1, "valid_loss"], step=len(net.history))
        if self.trial.should_prune():
            raise optuna.TrialPruned


def model_of(params, **more):
    return TangentPropClassifier(
        ImageTangents((8, 8)),
        penalty_weight=params["penalty_weight"],
        lr=params["lr"],
        batch_size=32,
        max_epochs=n_epochs,
        random_state=0,
        **more,
    )


def objective(trial):
    params = {
        "penalty_weight": trial.suggest_float("penalty_weight", 1e-3, 1, log=True),
        "lr": trial.suggest_float("lr", 1e-4, 3e-2, log=True),
    }
    model = model_of(
        params, early_stopping=True, validation_fraction=0.2, callbacks=[Pruning(trial)]
    )
    return min(model.fit(X_train, y_train).history_[:, "valid_loss"])


# %%
# The search
# ----------

optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    sampler=optuna.samplers.TPESampler(seed=0),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3),
)
study.optimize(objective, n_trials=n_trials)

n_pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
epochs = sum(len(trial.intermediate_values) for trial in study.trials)
best = model_of(study.best_params).fit(X_train, y_train)
print(f"{n_pruned} of {n_trials} trials were pruned; {epochs} epochs of {n_trials * n_epochs}")
print(f"best: {study.best_params}, test error {1 - best.score(X_test, y_test):.1%}")

# %%
# The picture
# -----------
# Each line is a trial. The grey ones were ended when they fell behind the median of those before.

figure, ax = plt.subplots(layout="constrained")
for trial in study.trials:
    pruned = trial.state == optuna.trial.TrialState.PRUNED
    style = {"color": "0.75", "zorder": 1} if pruned else {"color": "C0", "alpha": 0.6}
    if trial.number == study.best_trial.number:
        style = {"color": "C3", "linewidth": 2, "zorder": 3}
    ax.plot(list(trial.intermediate_values), list(trial.intermediate_values.values()), **style)
ax.set(xlabel="epoch", ylabel="validation loss", yscale="log")
ax.set_title(f"{n_trials} trials, {n_pruned} pruned (grey), the best in red")
figure.savefig(arguments.out, dpi=150)
