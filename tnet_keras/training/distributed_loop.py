"""Training on several replicas where Keras cannot: on several workers, several steps at once."""

import keras
import tensorflow as tf


def fit_distributed(
    model,
    dataset,
    epochs,
    steps_per_epoch,
    initial_epoch=0,
    first_step=0,
    validation_data=None,
    callbacks=(),
    verbose=0,
    steps_per_execution=1,
):
    """Does what `keras.Model.fit` does, with a loop of its own around `strategy.run`.

    Keras 3.15 fails on several workers (its issue 20585), and with several steps per execution on
    several replicas. Callbacks are called with the same logs; those of a batch are the mean over
    the replicas. Each worker passes the whole stream and takes its part of every global batch
    (`AutoShardPolicy.DATA`).

    Args:
        model: A built model, compiled in the scope of its strategy.
        dataset: Endless stream of global batches.
        epochs: Number of the last epoch.
        steps_per_epoch: Steps of an epoch.
        initial_epoch: Number of epochs that are done already.
        first_step: Steps of the next epoch that are done already.
        validation_data: Batches to measure after each epoch, or None.
        callbacks: Keras callbacks.
        verbose: As in Keras: 0, 1 or 2.
        steps_per_execution: Steps in a row without a return to Python; divides `steps_per_epoch`.

    Returns:
        `keras.callbacks.History`.
    """
    strategy = model.distribute_strategy
    if not model.optimizer.built:
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
    train = _train_function(model, strategy, steps_per_execution)
    test = _test_function(model, strategy)
    callbacks = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, add_progbar=verbose != 0, verbose=verbose,
        epochs=epochs, steps=steps_per_epoch, model=model,
    )  # fmt: skip
    iterator = iter(_distribute(strategy, dataset))
    validation = None if validation_data is None else _distribute(strategy, validation_data)
    model.stop_training = False
    logs = {}
    callbacks.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        for begin in range(first_step, steps_per_epoch, steps_per_execution):
            callbacks.on_train_batch_begin(begin)
            logs = train(iterator)
            callbacks.on_train_batch_end(begin + steps_per_execution - 1, logs)
            if model.stop_training:
                break
        first_step = 0
        logs = _metric_results(model, logs)
        if validation is not None:
            logs.update({f"val_{k}": v for k, v in _evaluate(model, test, validation).items()})
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end(logs)
    # No worker goes on, or reads the last state, before the one that writes is done.
    strategy.reduce("SUM", strategy.run(lambda: tf.ones([])), axis=None)
    return model.history


def _distribute(strategy, dataset):
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return strategy.experimental_distribute_dataset(dataset.with_options(options))


def _train_function(model, strategy, steps):
    def one_step(iterator):
        return _mean_over_replicas(strategy, strategy.run(model.train_step, (next(iterator),)))

    @tf.function(autograph=False)
    def train(iterator):
        if steps > 1:
            # The last step is outside the loop: its logs are the answer.
            def body(step):
                one_step(iterator)
                return step + 1

            tf.while_loop(lambda step: step < steps - 1, body, [tf.constant(0)])
        return one_step(iterator)

    return train


def _test_function(model, strategy):
    @tf.function(autograph=False)
    def test(batch):
        return _mean_over_replicas(strategy, strategy.run(model.test_step, (batch,)))

    return test


def _mean_over_replicas(strategy, logs):
    # One sum of a vector: every single reduction waits for all workers.
    names = sorted(logs)
    stacked = strategy.run(
        lambda values: tf.stack([tf.cast(value, tf.float32) for value in values]),
        ([logs[name] for name in names],),
    )
    means = strategy.reduce(tf.distribute.ReduceOp.MEAN, stacked, axis=None)
    return dict(zip(names, tf.unstack(means, num=len(names)), strict=True))


def _metric_results(model, logs):
    """The metrics of all replicas together, as Keras reports them at the end of an epoch."""
    results = model.get_metrics_result()
    chosen = results if results.keys() == logs.keys() else logs
    return {name: float(value) for name, value in chosen.items()}


def _evaluate(model, test, validation):
    model.reset_metrics()
    logs = {}
    for batch in validation:
        logs = test(batch)
    return _metric_results(model, logs)
