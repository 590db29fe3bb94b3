"""The words that the documentation of both estimators shares."""

from __future__ import annotations

import textwrap

FORMULA = r"""
    .. math::

        E = \frac1n \sum_i s_i L(f(x_i), y_i)
          + w \, \frac1n \sum_i s_i \sum_t \lVert J_f(x_i)\,\tau_{it} - d_{it} \rVert^2

    with samples :math:`x_i`, their weights :math:`s_i` (scaled to a mean of one), the tangent
    vectors :math:`\tau_{it}`, directions in input space, the directional derivatives wanted along
    them :math:`d_{it}` (zero, the output must not change, unless ``fit`` is given others), and the
    penalty weight :math:`w`. After Simard, Victorri, LeCun, Denker, *Tangent Prop - a
    formalism for specifying selected invariances in an adaptive network*, NIPS 1991.
"""

ATTRIBUTES = """
    net_ : TangentPropNet
        The skorch net.
    module_ : nn.Module
        The trained network.
    tangents_ : callable
        The ``tangents`` callable, fitted if it has a ``fit``.
    preprocessor_ : transformer
        The fitted preprocessor, if there is one.
    n_features_in_ : int
        Length of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X has them.
    n_iter_ : int
        Number of epochs trained.
    loss_curve_ : list of float
        Training loss of every epoch, penalty included.
    penalty_curve_ : list of float
        Penalty of every epoch, before it is multiplied by the penalty weight.
    history_ : EpochHistory
        All that skorch recorded: ``train_loss``, its terms ``train_data_loss`` and
        ``train_penalty``, and ``valid_loss``, the data term on the validation samples.
"""

DESCRIPTION = """
tangents : callable, default=None
    ``tangents(X) -> V``: from samples ``(n_samples, *input_shape)`` to their tangent vectors
    ``(n_samples, n_tangents, *input_shape)``, finite numbers, in the units of X. Any callable
    will do. One that has a ``fit`` method is cloned, and the clone is fitted on the training
    samples. It may return ``(V, derivatives)``, as ``fit`` takes these. None trains without a
    penalty, unless ``fit`` is given tangents or derivatives. It is called on parts of X, as arrays,
    also where ``fit`` was given a DataFrame. When all tangents together take more memory than
    scikit-learn's ``working_memory`` (1 GiB, see :func:`sklearn.set_config`), they are computed
    anew for each batch; the model stays the same.
penalty_weight : float, default=1.0
    w. At 0 the tangents are not computed, and training goes as it does without any.
n_projections : int, default=None
    None: the penalty is exact. An int k: in every step each sample's tangents are replaced by k
    random combinations of them, which estimate the same penalty without bias, at a cost that does
    not grow with the number of tangents; see :func:`~sktangent.projections.project`. Samples with
    k tangents or fewer keep them. ``penalty_curve_`` then holds the estimates.
augment : float or dict of str to float, default=None
    How far, at most, training samples are moved at random along each transformation, in the
    tangents' units (pixels, sample steps): by amounts drawn uniformly from minus to plus that
    number, anew in every epoch. A dict gives it by the transformations' names, zero for those left
    out; in a union the kind's name will do, or ``kind__name``. Tangents are taken where the samples
    have come to lie. The ``tangents`` must have a ``move``, as all of this library have; no
    derivatives but zero can be wanted, since samples that move would need targets that move.
    Samples to validate on or to predict for are never moved. With ``penalty_weight=0`` this is
    plain augmentation. None or 0: samples stay where they are.
{own}
preprocessor : transformer, default=None
    A scikit-learn transformer or pipeline of them, cloned and fitted on the training samples. The
    network sees what it makes of X. Tangents are taken where X is, and pushed forward through it:
    their units stay those of X. (A scaler in front of the estimator in a pipeline would change
    what they mean: the callable would see scaled samples.) Each part of it whose ``fit`` takes
    ``sample_weight``, a StandardScaler in a pipeline for example, is given the samples' weights;
    the others, PCA for example, see all samples alike.
module : nn.Module class, factory or instance, default=None
    None: :class:`~sktangent.modules.MLP`. A class or factory is called with ``module__*``, and
    with the sizes that its constructor asks for by name: the number of values of one sample as
    ``n_features``, ``n_inputs``, ``in_features``, ``input_size`` or ``input_dim``; the shape of one
    sample as ``input_shape``; the number of outputs as ``n_outputs``, ``out_features``,
    ``output_size``, ``output_dim``, ``n_classes`` or ``num_classes``. An instance is copied. It
    maps ``(n_samples, *input_shape)`` to ``(n_samples, n_outputs)``.
hidden_layer_sizes : {sizes}
activation : str or nn.Module class, default="gelu"
    Activation of the default module, see :class:`~sktangent.modules.MLP`.
criterion : {{"squared_error", "cross_entropy", "binary_cross_entropy"}}, nn.Module class or \
callable, default=None
    L, as :class:`~sktangent.criterion.TangentPropLoss` takes it, with ``criterion__*``. None:
    {criterion}.
optimizer : {{"auto", "adam", "adamw", "sgd", "lbfgs", "lm"}} or torch.optim.Optimizer class, \
default="auto"
    Constructed with ``lr``, the L2 weight and ``optimizer__*``. "sgd" has Nesterov momentum 0.9.
    "lbfgs" takes all samples at once, and up to 20 iterations in an epoch. "lm",
    Levenberg-Marquardt, takes all at once and 10 iterations, for squared error and networks of up
    to some thousands of parameters. "auto": {auto}
lr : float or "auto", default="auto"
    Learning rate. "auto": 1e-3; for "lbfgs" 1, the first step that its line search tries. For
    "lm" the damping at the start.
batch_size : int or "auto", default="auto"
    Samples in a batch; "auto": 200, or all samples if there are fewer or with "lbfgs" or "lm";
    where "auto" has chosen "lm" for very many samples, as many as bring four numbers for each
    parameter of the network.
max_epochs : int or "auto", default="auto"
    Passes over the data, at most. "auto": 200, or as many as take 3,000 optimizer steps if that
    is more; with "lbfgs" 100; with "lm" at most 60, as many as 1e11 multiplications allow. A
    number that is reached while the
    loss still falls by more than ``tol`` an epoch gives a ConvergenceWarning.
alpha : float or "auto", default="auto"
    L2 weight: ``alpha / 2 / (samples in a batch)`` times the sum of the squared weights, biases
    left out, as in scikit-learn's MLP. ("adamw" decouples it from the gradient.)
    "auto": 1e-4; with "lm" and 30 or more known numbers, values and derivatives, chosen in
    training, for each layer, as what explains them best: tiny without noise, larger with some
    (:func:`~sktangent.training.evidence.evidence`).
early_stopping : bool, default=False
    Set ``validation_fraction`` of the samples aside, end training when the data term on them,
    weighted as in training, stops improving, and restore the parameters that were best on them.
validation_fraction : float, default=0.1
    See ``early_stopping``.
n_iter_no_change : int, infinity or "auto", default="auto"
    Training ends after so many epochs in a row whose loss is not better than the best before by
    ``tol``. "auto": 10, or as many as take 300 optimizer steps if that is more; with "lbfgs" 25,
    with "lm" 5, or 2 where it goes in batches.
tol : float, default=1e-4
    See ``n_iter_no_change``; with "lbfgs" and "lm" as a part of the loss.
warm_start : bool, default=False
    Start ``fit`` from where the last one ended. The net of the last one stays; a change of what it
    cannot follow, as ``hidden_layer_sizes``, ``module``, ``preprocessor``, ``dtype``, the class of
    the optimizer or the set of classes, raises ValueError.
shuffle : bool, default=True
    Draw the batches anew in each epoch. Without effect when one batch holds all samples.
verbose : bool or int, default=False
    True or 1: show one bar over the epochs, with the terms of the loss and the time left; lines now
    and then where standard error is a file or a pipe, and one line a fit from parallel workers. 2
    or more: print skorch's table of the losses of every epoch.
random_state : int, RandomState instance or None, default=None
    For initial parameters, batches, validation split, projections and dropout. The same value gives
    the same model on the same machine, in any thread; numpy's and torch's global random states are
    left alone. What can draw from torch's global generators only (a user's constructor, dropout and
    every ``forward`` that is not torch's) finds the fit's numbers there while it runs: such steps
    of parallel fits take turns, on a GPU too, and another thread that draws meanwhile disturbs
    them. A network that draws when it predicts draws the same in every call. None draws a seed from
    numpy's, as scikit-learn does.
device : str, default="cpu"
    "cpu", "cuda", "cuda:1", "mps", or "auto" for the first of cuda, mps and cpu that is there.
dtype : {{"float32", "float64"}} or numpy dtype, default=None
    Precision of the network. None: float32 if X is float32, else float64.
autocast : {{"bfloat16"}}, default=None
    Mixed precision in training, for a float32 network on a GPU: matrix products and convolutions
    in bfloat16, whose 8 bits cost the derivatives about 1 % of their size. Predictions, and the
    derivatives that the fitted model gives, are in float32.
compile : bool, default=False
    Compile the training pass with tangents by :func:`torch.compile`: it takes seconds at the start
    and pays in long fits. ``forward`` must consist of the same torch functions every time. A
    warning tells if no compiler is at hand; training then runs uncompiled. Without tangents it
    does nothing, nor on the CPU where it would not help: for linear layers with activations between
    them, as the default module, whose pass is one function as it is; on AMD's processors for all
    networks of large linear layers, unless they convolve.
accelerator : accelerate.Accelerator, default=None
    Fit with all processes that ``accelerate launch`` or ``torchrun`` has started, on its device,
    and ``device`` is not used. Each calls ``fit``, with the same parameters. Where all are given
    the same samples, each trains on a part of every batch, and the model is that of one process,
    but for dropout and batch normalization, which act on each part alone. Where each is given its
    own, of a data set that no machine holds, they train on all of them, and the preprocessor is
    fitted on the first one's. ``batch_size`` counts the samples of all processes. What is told and
    skorch's checkpoints come from the first one. "lm" cannot be used. See
    :mod:`sktangent.training.distributed`. It is left out of what is pickled, for workers too; a fit
    after that warns that it is one process's.
checkpoint : str or path, default=None
    A folder in which ``fit`` keeps the state of training now and then, after an epoch, in a file of
    its own. A fit of the same data with the same parameters that was killed or interrupted goes on
    from there when it is started again, and on a CPU becomes, to the last bit, what it would have
    become; ``random_state`` must be given. Of another fit's file nothing is used, and a warning
    names what differs. When training has come to its end, the file is removed. Where it cannot be
    written, a warning tells so and training goes on. ``partial_fit`` and several processes that
    fit together have none. See :mod:`sktangent.training.checkpoints`.
callbacks : list, default=None
    skorch callbacks, as skorch takes them.
**kwargs : dict
    ``module__*``, ``criterion__*``, ``optimizer__*``, ``iterator_train__*``, ``iterator_valid__*``
    ``compile__*`` and ``callbacks__*`` are handed to skorch.
"""


SEARCH_FORMULA = r"""
    Each weight is cross-validated, and the network is fitted again on all samples with the one that
    ``rule`` chooses. Small networks of all weights and folds train side by side, as one batch of
    matrix products; each ends as it would alone, to rounding.

    With :math:`s_{ck}` the score of weight c on fold k of K, and b the weight of the best mean, the
    weights within one standard error of the best are

    .. math:: \overline{d_c} \le \sqrt{\frac{1}{K (K - 1)} \sum_k (d_{ck} - \overline{d_c})^2},
              \qquad d_{ck} = s_{bk} - s_{ck} ,

    and of these the most invariant one is chosen that scores no worse than weight zero does
    (:func:`~sktangent.model_selection.one_standard_error`, after Breiman et al., *Classification
    and Regression Trees*, 1984, section 3.4.3).
"""

SEARCH_DESCRIPTION = """
    tangents : callable, default=None
        As of :class:`{plain}`.
    penalty_weights : int, array-like of float or dict, default=10
        The weights to try. An int: zero, and so many less one log-spaced from 1e-2 to 100 times
        the weight at which the penalty of a fit without it costs as much as an output of zero
        everywhere. A dict, for a :class:`~sktangent.tangents.TangentUnion`, has for some of its
        kinds an int or weights; ``penalty_weight`` is then 1 and the weights of the union are
        searched. A kind that does harm by itself ends at its smallest weight; the weights of the
        others rise side by side, and each may then differ from them where the folds tell that it is
        better off.
    cv : int, splitter or iterable, default=None
        The folds, as in :class:`~sklearn.model_selection.GridSearchCV`; None: five.
    rule : {{"one_standard_error", "best"}} or callable, default="one_standard_error"
        How to choose. "best": the best mean score. A callable takes ``cv_results_`` and returns the
        index of its choice.
    scoring : str or callable, default=None
        What to compare by, greater is better. None: ``score``.
    n_jobs : int, default=None
        Processes, as in scikit-learn, for fits that cannot train side by side or are no faster so.
    augments : list, default=None
        Values of ``augment`` to try with each weight. None: ``augment`` as it is.
    halving : bool, default=False
        Train all for a ninth of the epochs, those that go on for a third, and of these those that
        go on to the end. After each rung the better third go on, and all whose mean score is within
        one standard error of the best. A weight that would have become the best later may be lost.
        Not with weights by kind.
    **kwargs : dict
        All other parameters of :class:`{plain}`.

    Attributes
    ----------
    penalty_weight_ : float or dict of str to float
        The weight that was chosen; with weights by kind, one of each kind.
    augment_ : float or dict
        The value that was chosen, if there are ``augments``.
    penalty_weights_ : ndarray or dict of str to ndarray
        The weights that were tried.
    cv_results_ : dict of str to ndarray
        As of scikit-learn's searches: ``score``, and beside it ``invariance``, minus the
        :func:`~sktangent.metrics.local_invariance_error` on the fold, where no derivatives but zero
        are wanted. With ``halving`` also ``trained_part``, the part of the epochs that a candidate
        was trained for, to which its scores belong; the rule is shown those with 1 alone.
    best_index_ : int
        The row of the chosen one.
"""


def describe(own: str, criterion: str, auto: str, sizes: str) -> str:
    """Write out the description of the shared parameters around an estimator's own ones."""
    text = DESCRIPTION.strip().format(
        own=own.strip(), criterion=criterion, auto=auto, sizes=sizes.strip()
    )
    return textwrap.indent(text, "    ").lstrip()
