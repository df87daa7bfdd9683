"""Workers of this very process, for tests that need no other."""

from foretune.running.workers import Died, Ended, Row


class Inline:
    """A step runs when events are asked for, first submitted first; `die` lists trials whose next
    step dies instead.
    """

    def __init__(self, objective, count=1, die=()):
        self.objective, self.count, self.die = objective, count, list(die)
        self.steps = []
        self.closed = False

    @property
    def free(self):
        """Steps that can be submitted now."""
        return self.count - len(self.steps)

    def submit(self, step, config):
        """Keep a step."""
        self.steps.append((step, config))

    def events(self, timeout):
        """Run the first step kept."""
        step, config = self.steps.pop(0)
        out = []
        if self.die and self.die[0] == step.config_id:
            self.die.pop(0)
            return [Died(step, "its worker process ended with exit code -9")]
        outcome = self.objective.run(
            step.config_id, config, step.start, step.stop, lambda row: out.append(Row(step, row))
        )
        return [*out, Ended(step, outcome)]

    def close(self):
        """Remember that it was asked for."""
        self.closed = True
