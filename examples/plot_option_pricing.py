"""
=================================================
Prices and deltas of an option from noisy payoffs
=================================================

A bank wants the price of an option as a function of today's markets, and its deltas, the
derivatives by which it hedges. The price is an expectation that takes many simulated paths for
each state of the market. Differential machine learning (Huge and Savine, 2020) simulates one path
only for each of many states, and lets a network find the average. A single payoff is a very noisy
price. Yet along the path its derivative with respect to today's prices is known too, for nearly
nothing, and that tells the network far more than the payoff alone.

Here is the paper's example, a call on a basket of assets in Bachelier's model, since its price and
deltas are known in closed form. Networks are fitted to payoffs alone, and to payoffs with their
derivatives, and both are compared with the truth.
"""

import argparse
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import LRScheduler

from sktangent import TangentPropRegressor

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="A basket option, with and without differentials.")
parser.add_argument("--out", default="option_pricing.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="fewer paths, epochs and random states")
args = parser.parse_args()

n_paths_tried = [256] if args.quick else [512, 2048, 8192]
random_states = range(1) if args.quick else range(3)

# %%
# The market
# ----------
# The assets' prices S start near 100 and wander by Gaussian steps with volatilities and
# correlations of random choice, scaled so that the basket, their weighted mean B, has a volatility
# of 20 a year. The option pays max(B - 110, 0) after a year.

n_assets, strike, basket_volatility = 7, 110.0, 20.0
market = np.random.default_rng(0)
weights = market.uniform(1, 10, n_assets)
weights /= weights.sum()
loadings = market.uniform(-1, 1, (n_assets, n_assets))
correlation = loadings @ loadings.T + np.eye(n_assets)
correlation /= np.sqrt(np.outer(correlation.diagonal(), correlation.diagonal()))
volatilities = market.uniform(5, 50, n_assets)
covariance = correlation * np.outer(volatilities, volatilities)
covariance *= basket_volatility**2 / (weights @ covariance @ weights)
root = np.linalg.cholesky(covariance)


def spread(rng, n):
    """Draw today's prices, as widely as a year would spread them."""
    return 100 + rng.standard_normal((n, n_assets)) @ root.T


def simulate(n, seed):
    """Simulate a path from each of n states: today's prices, payoffs, pathwise derivatives.

    Where the option ends in the money, one more unit of an asset today is one more unit at the end,
    so the payoff's derivative is the asset's weight in the basket; elsewhere it is zero.
    """
    rng = np.random.default_rng(seed)
    today = spread(rng, n)
    end = (today + rng.standard_normal((n, n_assets)) @ root.T) @ weights
    in_the_money = end > strike
    return today, np.maximum(end - strike, 0), in_the_money[:, np.newaxis] * weights


def closed_form(today):
    distance = (today @ weights - strike) / basket_volatility
    price = basket_volatility * (distance * norm.cdf(distance) + norm.pdf(distance))
    return price, norm.cdf(distance)[:, np.newaxis] * weights


test = spread(np.random.default_rng(1000), 1000 if args.quick else 4000)
true_price, true_delta = closed_form(test)

# %%
# The networks
# ------------
# ``derivatives=`` takes what the simulation gives, in money per unit of each asset: the scaler that
# stands in front of the network changes both, by the chain rule. Both networks have the same
# architecture and the same training: Adam, and a learning rate that falls to zero, so that the
# noise of the batches averages out.
#
# The penalty weight trades payoffs against their derivatives. Its unit matters here: derivatives
# are per unit of price, and the assets move by tens of units, so that each squared derivative, in
# scaled units of payoff, is small. A weight of the mean squared spread of the assets makes both
# terms alike.

penalty_weight = covariance.diagonal().mean()


def fit(n_paths, random_state, with_derivatives):
    today, payoff, derivatives = simulate(n_paths, random_state)
    epochs = 20 if args.quick else max(30, 200 * 512 // n_paths)
    model = TangentPropRegressor(
        penalty_weight=penalty_weight,
        hidden_layer_sizes=(20, 20),
        activation="silu",
        preprocessor=StandardScaler(),
        optimizer="adam",
        lr=5e-3,
        max_epochs=epochs,
        n_iter_no_change=epochs,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
        random_state=random_state,
    )
    return model.fit(today, payoff, derivatives=derivatives if with_derivatives else None)


def root_mean_square(error):
    return np.sqrt(np.mean(error**2))


def errors(model):
    price, delta = model.predict(test), model.jacobian(test)[:, 0]
    return root_mean_square(price - true_price), root_mean_square(delta - true_delta)


start = time.perf_counter()
results, last = {}, {}
for with_derivatives in (False, True):
    for n_paths in n_paths_tried:
        models = [fit(n_paths, state, with_derivatives) for state in random_states]
        results[with_derivatives, n_paths] = np.array([errors(model) for model in models])
        last[with_derivatives] = models[0]

# %%
# What the derivatives are worth
# ------------------------------
# Root mean square errors over states that no network has seen, medians over random states (of the
# paths and of the networks), and the ratio of the two at equal numbers of paths.

print(f"a call on {n_assets} assets: root mean square errors, medians of {len(random_states)}")
print(f"{'':<10}{'price':^32}{'delta':^32}")
print(f"{'paths':<10}" + 2 * f"{'without':>10}{'with':>10}{'ratio':>8}    ")
for n_paths in n_paths_tried:
    without, with_them = (np.median(results[key, n_paths], axis=0) for key in (False, True))
    cells = (f"{a:10.4f}{b:10.4f}{b / a:8.3f}" for a, b in zip(without, with_them, strict=True))
    print(f"{n_paths:<10}" + "    ".join(cells))
print(f"\n{time.perf_counter() - start:.0f} s in all")

# %%
# The picture
# -----------
# Left: price and the delta of the heaviest asset against the truth, for the most paths. All states
# with the same basket have the same price, so that whatever is off the curve is the network's
# error. Right: the errors over the number of paths.

figure, axes = plt.subplots(2, 3, figsize=(13, 7.4), layout="constrained")
basket = test @ weights
order = np.argsort(basket)
heaviest = weights.argmax()
names = {False: "payoffs alone", True: "payoffs and derivatives"}
colors = {False: "tab:orange", True: "tab:blue"}
today, payoff, _ = simulate(n_paths_tried[-1], 0)
for column, key in enumerate((False, True)):
    top, bottom = axes[0, column], axes[1, column]
    shown = slice(0, 1000)
    top.plot(today[shown] @ weights, payoff[shown], ".", color="0.85", markersize=3)
    top.plot(basket, last[key].predict(test), ".", color=colors[key], markersize=2)
    top.plot(basket[order], true_price[order], color="black", linewidth=1)
    bottom.plot(
        basket, last[key].jacobian(test)[:, 0, heaviest], ".", color=colors[key], markersize=2
    )
    bottom.plot(basket[order], true_delta[order, heaviest], color="black", linewidth=1)
    top.set(xlim=(40, 160), ylim=(-4, 70), title=f"{names[key]}, {n_paths_tried[-1]:,} paths")
    reach = weights[heaviest]
    bottom.set(xlim=(40, 160), ylim=(-0.6 * reach, 1.6 * reach), xlabel="basket today")
    handles = [
        plt.Line2D([], [], color="0.8", marker="o", linestyle="", markersize=4),
        plt.Line2D([], [], color=colors[key], marker="o", linestyle="", markersize=4),
        plt.Line2D([], [], color="black"),
    ]
    top.legend(handles, ["payoffs", "network", "closed form"], frameon=False, loc="upper left")
axes[0, 0].set_ylabel("price of the option")
axes[1, 0].set_ylabel("delta of the heaviest asset")
for row, what in enumerate(("price", "delta")):
    ax = axes[row, 2]
    for key in (False, True):
        low, middle, high = (
            [quantile(results[key, n][:, row]) for n in n_paths_tried]
            for quantile in (np.min, np.median, np.max)
        )
        ax.plot(n_paths_tried, middle, "o-", color=colors[key], label=names[key])
        ax.fill_between(n_paths_tried, low, high, color=colors[key], alpha=0.2, linewidth=0)
    ax.set(xscale="log", yscale="log", title=f"error of the {what}")
    ax.set_ylabel("root mean square error")
    ax.set_xticks(n_paths_tried, [f"{n:,}" for n in n_paths_tried])
    ax.minorticks_off()
axes[0, 2].legend(frameon=False, loc="lower left")
axes[1, 2].set_xlabel("paths")
for ax in axes.flat:
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig(args.out, dpi=150)
