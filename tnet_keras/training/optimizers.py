"""Optimizers: schedules of the learning rate, rates for groups of variables, accumulation."""

import keras
import tensorflow as tf

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "piecewise", "constant")


@keras.saving.register_keras_serializable(package="tnet_keras")
class PiecewiseRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly, stays, and is multiplied by a factor at each drop.

    Step t (from 0) has η · t / w while t < w, then η · factor ^ (number of boundaries ≤ t).

    Args:
        learning_rate: Highest learning rate η.
        boundaries: Steps of the drops, ascending: the first steps that have the lower rate.
        factor: What a drop multiplies the rate by.
        warmup_steps: Steps w of the rise.
    """

    def __init__(self, learning_rate, boundaries=(), factor=0.1, warmup_steps=0):
        super().__init__()
        self.learning_rate, self.factor = float(learning_rate), float(factor)
        self.boundaries = [int(boundary) for boundary in boundaries]
        self.warmup_steps = int(warmup_steps)

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        # The products are made here, once, so that a drop is exact and not a power in float32.
        rate = tf.constant(self.learning_rate, tf.float32)
        for number, boundary in enumerate(self.boundaries, start=1):
            rate = tf.where(step >= boundary, self.learning_rate * self.factor**number, rate)
        if self.warmup_steps:
            rising = self.learning_rate * step / self.warmup_steps
            rate = tf.where(step < self.warmup_steps, rising, rate)
        return rate

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "boundaries": list(self.boundaries),
            "factor": self.factor,
            "warmup_steps": self.warmup_steps,
        }


class _RateFactors:
    """Mixin of an optimizer whose learning rate is scaled for single variables.

    One optimizer with factors does what one optimizer for each group would do (clipping by the
    norm of all gradients together aside), and its state is saved as a whole.
    """

    def __init__(self, rate_factors=None, **kwargs):
        super().__init__(**kwargs)
        self.rate_factors = dict(rate_factors or {})
        self._factors = []

    def build(self, variables):
        super().build(variables)
        absent = sorted(self.rate_factors.keys() - {v.path for v in variables})
        if absent:
            raise ValueError(
                "`rate_factors` must name variables of the optimizer. "
                f"Received: rate_factors of {absent[0]!r}"
            )
        self._factors = [self.rate_factors.get(v.path, 1.0) for v in variables]

    def _factor(self, variable):
        return self._factors[self._get_variable_index(variable)]

    def update_step(self, gradient, variable, learning_rate):
        factor = tf.cast(self._factor(variable), learning_rate.dtype)
        return super().update_step(gradient, variable, learning_rate * factor)

    def _apply_weight_decay(self, variables):
        # Keras 3.15 decays all variables by one learning rate, and has no place to scale it in.
        if self.weight_decay is None:
            return

        def decay(variable):
            if self._use_weight_decay(variable):
                share = self.learning_rate * self.weight_decay * self._factor(variable)
                variable.assign_sub(variable * tf.cast(share, variable.dtype))

        def decay_all(strategy, tensors):
            for tensor in tensors:
                strategy.extended.update(tensor, decay, group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(
            decay_all, self._distribution_strategy, [getattr(v, "value", v) for v in variables]
        )

    def get_config(self):
        return {**super().get_config(), "rate_factors": self.rate_factors}


@keras.saving.register_keras_serializable(package="tnet_keras")
class GroupedAdam(_RateFactors, keras.optimizers.Adam):
    """Adam with a learning rate for each group of variables.

    Args:
        rate_factors: dict from the path of a variable to what its learning rate is multiplied by.
        **kwargs: As of `keras.optimizers.Adam`.
    """


@keras.saving.register_keras_serializable(package="tnet_keras")
class GroupedAdamW(_RateFactors, keras.optimizers.AdamW):
    """AdamW with a learning rate, and decay in proportion, for each group of variables.

    Args:
        rate_factors: dict from the path of a variable to what its learning rate is multiplied by.
        **kwargs: As of `keras.optimizers.AdamW`.
    """


@keras.saving.register_keras_serializable(package="tnet_keras")
class GroupedSGD(_RateFactors, keras.optimizers.SGD):
    """SGD with a learning rate for each group of variables.

    Args:
        rate_factors: dict from the path of a variable to what its learning rate is multiplied by.
        **kwargs: As of `keras.optimizers.SGD`.
    """


def make_optimizer(
    name="adamw",
    learning_rate=1e-3,
    steps=1,
    warmup_steps=0,
    weight_decay=0.0,
    clip_norm=None,
    clip_value=None,
    momentum=0.9,
    nesterov=True,
    schedule="cosine",
    drops=(0.8,),
    drop_factor=0.1,
    accumulation_steps=1,
    group_rates=None,
    model=None,
):
    """Makes an optimizer whose learning rate follows a schedule.

    After a linear rise over `warmup_steps` w to the learning rate η, step t of n has
    η · ½ · (1 + cos(π · (t - w) / (n - w))) with "cosine"; η times `drop_factor` for every drop
    that is behind with "piecewise"; η with "constant".

    Args:
        name: "adamw", "adam" or "sgd".
        learning_rate: Highest learning rate η, positive.
        steps: Steps (batches) n of the whole training, at least 1.
        warmup_steps: Steps w of the rise, fewer than `steps`.
        weight_decay: Decoupled weight decay. Biases and normalisation parameters are exempt.
        clip_norm: Largest norm of all gradients together, or None.
        clip_value: Largest size of each value of the gradients, or None.
        momentum: Momentum of "sgd".
        nesterov: Whether it is Nesterov's.
        schedule: "cosine", "piecewise" or "constant".
        drops: Fractions of `steps`, ascending, at which "piecewise" drops: from step
            round(fraction · n) on. TNet was published with (0.8,) or (0.9,), and (0.7, 0.85).
        drop_factor: What a drop multiplies the learning rate by.
        accumulation_steps: Batches whose mean gradient makes one update. With several replicas
            `compile` of the package's models refuses more than 1: Keras 3.15 cannot do it.
        group_rates: dict from a name to the learning rate η of the variables of that name, with the
            same schedule; see `variables_named`. The first name that fits counts. None for one
            rate. As published for fine-tuning: 1e-3, and {"backbone": 1e-4}.
        model: The built model, with `group_rates` only. Freeze first.

    Returns:
        `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If an argument is outside its range, or a name fits no trainable variable.
    """
    _check_range(name, learning_rate, steps, warmup_steps, weight_decay, clip_norm, clip_value)
    _check_schedule(schedule, drops, drop_factor, accumulation_steps)
    if schedule == "cosine" and warmup_steps:
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            decay_steps=steps - warmup_steps,
            warmup_target=learning_rate,
            warmup_steps=warmup_steps,
        )
    elif schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    else:
        boundaries = [round(drop * steps) for drop in drops] if schedule == "piecewise" else ()
        rate = PiecewiseRate(learning_rate, boundaries, drop_factor, warmup_steps)
    options = {"learning_rate": rate, "global_clipnorm": clip_norm, "clipvalue": clip_value}
    if weight_decay:
        options["weight_decay"] = weight_decay
    if accumulation_steps > 1:
        options["gradient_accumulation_steps"] = accumulation_steps
    if group_rates:
        options["rate_factors"] = _rate_factors(model, group_rates, learning_rate)
    if name == "sgd":
        kind = GroupedSGD if group_rates else keras.optimizers.SGD
        optimizer = kind(momentum=momentum, nesterov=nesterov, **options)
    elif name == "adam" and not weight_decay:
        optimizer = (GroupedAdam if group_rates else keras.optimizers.Adam)(**options)
    else:
        # With decoupled decay Adam is AdamW; AdamW's own default decay must not slip in.
        options.setdefault("weight_decay", 0.0)
        optimizer = (GroupedAdamW if group_rates else keras.optimizers.AdamW)(**options)
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def variables_named(model, name):
    """Finds the trainable variables of a model that a name stands for.

    Args:
        model: A built model.
        name: An attribute of the model that is a layer ("backbone"), the name of a layer in it, or
            a part of the paths of variables ("location_module", "conv1/kernel").

    Returns:
        List of variables, not empty.

    Raises:
        ValueError: If no trainable variable has the name.
    """
    layers = [layer for layer in model._flatten_layers() if layer.name == name]
    if isinstance(getattr(model, name, None), keras.layers.Layer):
        layers.append(getattr(model, name))
    inside = {id(variable) for layer in layers for variable in layer.trainable_variables}
    found = [v for v in model.trainable_variables if id(v) in inside or name in v.path]
    if not name or not found:
        parts = dict.fromkeys(v.path.split("/")[0] for v in model.trainable_variables)
        raise ValueError(
            "`name` must be that of a layer or a part of the path of a trainable variable "
            f"(which begin with {', '.join(parts)}). Received: name={name!r}"
        )
    return found


def freeze(model, names):
    """Keeps variables of a model from learning. Call it before the model is compiled.

    Batch normalisation goes on to record the statistics of what it sees, as in the published
    fine-tuning; its scale and shift are frozen with the rest.

    Args:
        model: A built model.
        names: Sequence of names, see `variables_named`.

    Returns:
        Number of variables frozen.

    Raises:
        ValueError: If a name fits no trainable variable, or nothing would be left to train.
    """
    chosen = {id(v): v for name in names for v in variables_named(model, name)}
    if len(chosen) == len(model.trainable_variables):
        raise ValueError(
            f"`names` must leave something to train. Received: names={','.join(names)}"
        )
    for variable in chosen.values():
        variable.trainable = False
    return len(chosen)


def _rate_factors(model, group_rates, learning_rate):
    if model is None:
        raise ValueError("`model` must be given with `group_rates`. Received: model=None")
    groups = {}
    for name, rate in group_rates.items():
        if not rate > 0:
            raise ValueError(
                f"`group_rates` must be positive. Received: group_rates={{{name!r}: {rate}}}"
            )
        for variable in variables_named(model, name):
            groups.setdefault(id(variable), rate / learning_rate)
    factors = {}
    for variable in model.trainable_variables:
        factor = groups.get(id(variable), 1.0)
        if factors.setdefault(variable.path, factor) != factor:
            raise ValueError(
                "`group_rates` must not split variables of the same path. "
                f"Received: two variables {variable.path!r}"
            )
    return {path: factor for path, factor in factors.items() if factor != 1.0}


def _check_range(name, learning_rate, steps, warmup_steps, weight_decay, clip_norm, clip_value):
    if name not in OPTIMIZERS:
        raise ValueError(
            f"`name` must be one of {', '.join(map(repr, OPTIMIZERS))}. Received: name={name!r}"
        )
    if not learning_rate > 0:
        raise ValueError(
            f"`learning_rate` must be positive. Received: learning_rate={learning_rate}"
        )
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1. Received: steps={steps}")
    if not 0 <= warmup_steps < steps:
        raise ValueError(
            f"`warmup_steps` must be in 0..{steps - 1}. Received: warmup_steps={warmup_steps}"
        )
    if not weight_decay >= 0:
        raise ValueError(
            f"`weight_decay` must not be negative. Received: weight_decay={weight_decay}"
        )
    for argument, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if value is not None and not value > 0:
            raise ValueError(f"`{argument}` must be positive or None. Received: {argument}={value}")
    if clip_norm is not None and clip_value is not None:
        raise ValueError(
            "`clip_norm` and `clip_value` exclude each other. "
            f"Received: clip_norm={clip_norm}, clip_value={clip_value}"
        )


def _check_schedule(schedule, drops, drop_factor, accumulation_steps):
    if schedule not in SCHEDULES:
        raise ValueError(
            f"`schedule` must be one of {', '.join(map(repr, SCHEDULES))}. "
            f"Received: schedule={schedule!r}"
        )
    drops = list(drops)
    if schedule == "piecewise" and not (
        drops and all(0 < drop < 1 for drop in drops) and drops == sorted(set(drops))
    ):
        raise ValueError(
            "`drops` must be ascending fractions between 0 and 1, at least one. "
            f"Received: drops={drops}"
        )
    if not 0 < drop_factor < 1:
        raise ValueError(
            f"`drop_factor` must be between 0 and 1. Received: drop_factor={drop_factor}"
        )
    if accumulation_steps < 1:
        raise ValueError(
            "`accumulation_steps` must be at least 1. "
            f"Received: accumulation_steps={accumulation_steps}"
        )
