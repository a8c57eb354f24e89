"""Controllers as a third party would write them, for tests."""


def restless(step):
    """Change with every step, and remember."""
    step.scratch[0] += 1.0
    return (step.scratch[0] * 7.0 + step.rounds + step.accepted_tokens) % (step.most_drafts + 1.0)


def by_its_own(job, step):
    """Draft as many as this request had accepted, and one more."""
    if job.drafted_tokens == 0:
        return step.scheduled
    return 1.0 + 2.0 * job.accepted_tokens / job.drafted_tokens + job.emitted_tokens % 3


def peeks(step):
    """Read what only an oracle may."""
    return step.would_accept[1]


def writes(step):
    """Write what is not its own."""
    step.batch = 3
    return 1


def remembers(job, step):
    """Keep something between requests, whose order is nobody's business."""
    step.scratch[0] += 1.0
    return step.scratch[0]


def nothing(step):
    """Return no number."""
    return step.context_tokens / 0.0 - step.context_tokens / 0.0


def beyond(step):
    """Ask for more than there may be, and for less than none."""
    return 1e9 if step.number % 2 else -5.0


def counting(step):
    """Go through all numbers of drafts, by what was accepted at each place."""
    return (step.number + step.passed[0] + step.tried[1] + step.passed[step.draft_tokens]) % (step.most_drafts + 1.0)
