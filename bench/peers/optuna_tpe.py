"""Optuna: TPE with its Hyperband pruner."""

import optuna
from pool import Pool, main


def run(pool: Pool) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.HyperbandPruner(
        min_resource=1, max_resource=pool.epochs, reduction_factor=3
    )
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=pool.seed), pruner=pruner
    )

    def objective(trial: optuna.Trial) -> float:
        i = pool.nearest([trial.suggest_float(name, 0, 1) for name in pool.names()])
        value = 0.0
        for epoch in range(1, pool.epochs + 1):
            value = pool.train(i, epoch)
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study.optimize(objective)


if __name__ == "__main__":
    main(run)
