"""Every state of a transaction and its cycle meets every input: one table says what happens, and a test walks it."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from protocol.ages import Ages
from protocol.events_redrive import RedriveAction
from protocol.inputs import (
    Aim,
    AlertDone,
    CallAnswer,
    CallEnded,
    CallFailure,
    CallLeaves,
    Continue,
    Deliver,
    Deploy,
    Hit,
    HoldDue,
    Input,
    OrderRedrive,
    ParkDue,
    Parked,
    Recover,
    Redrive,
    ReplySettled,
    Retain,
    RunOnce,
    Settle,
    Start,
    Stop,
)
from protocol.loading import Source, encode_definition, load_project
from runtime.store.digest import digest
from tests.protocol.story import Story
from tests.protocol.test_cycle import ORDER

UNSAFE = ORDER.replace("path: /shipments", "path: /shipments\n    safe_to_repeat: no")


def running() -> Story:
    story = Story(ORDER)
    story.hit("placed", {"order": "A1"}, headers={"idempotency-key": "k1"})
    return story


def held() -> Story:
    story = running()
    story.answer({"job_id": 42})
    return story


def completed() -> Story:
    story = held()
    story.hit("changed", {"job_id": 42, "status": "Picked"})
    return story


def failed() -> Story:
    story = running()
    story.answer(None, 500)
    return story


def stopped() -> Story:
    story = running()
    story.stop()
    return story


def announced() -> Story:
    """A call that is not safe to repeat, and has not left yet."""
    story = Story(UNSAFE)
    story.hit("placed", {"order": "A1"}, headers={"idempotency-key": "k1"})
    return story


def unknown() -> Story:
    story = announced()
    story.leave()
    story.restart()
    return story


def queued() -> Story:
    """A pass in progress with one more callback behind it."""
    story = held()
    story.hit("changed", {"job_id": 42, "status": "Despatched"})
    story.hit("changed", {"job_id": 42, "status": "Late"})
    return story


def halted() -> Story:
    """A hold in a cycle that was stopped."""
    story = held()
    story.stop()
    return story


def stopping() -> Story:
    """A pass in progress in a cycle that was told to finish."""
    story = running()
    story.stop("finish")
    return story


def waiting() -> Story:
    """A hold in a cycle that was stopped and waits for one request."""
    story = halted()
    story.put(RunOnce("orders", story.at))
    return story


def once() -> Story:
    """A pass in progress of the one request that a stopped cycle took."""
    story = Story(ORDER, started=False)
    story.put(RunOnce("orders", story.at))
    story.hit("placed", {"order": "A1"}, headers={"idempotency-key": "k1"})
    return story


STATES: dict[str, Callable[[], Story]] = {
    "running": running,
    "held": held,
    "queued": queued,
    "completed": completed,
    "failed": failed,
    "stopped": stopped,
    "unknown": unknown,
    "announced": announced,
    "halted": halted,
    "stopping": stopping,
    "waiting": waiting,
    "once": once,
}


def ended(story: Story, outcome: CallAnswer | CallFailure, **other: Any) -> Input:
    """An outcome of the open call; what is said otherwise makes it one of another call."""
    row = story.only()
    step = row.call.step if row.call is not None else "book"
    ours: dict[str, Any] = {"step": step, "number": row.number, "attempt": row.call.attempt if row.call else 1, **other}
    return CallEnded("orders", story.at, row.id, ours["step"], ours["number"], ours["attempt"], outcome)


def request(story: Story, step: str, body: Any, key: str = "") -> Input:
    """A request that was admitted."""
    admitted = story.admit(step, body, headers={"idempotency-key": key} if key else {})
    assert isinstance(admitted, Hit)
    return admitted


def aimed(story: Story) -> Input:
    """A parked hit that no value leads to the transaction, given to it by hand; none is parked where none is taken."""
    verdict = story.put(request(story, "changed", {"job_id": 43, "status": "Despatched"}))
    return Aim("orders", story.at, verdict.hit if isinstance(verdict, Parked) else 0, min(story.state.transactions))


def deployed(story: Story, text: str) -> Input:
    """A definition to become the current one."""
    (definition,) = load_project([Source("0.cycle.yaml", text)])[0].values()
    return Deploy("orders", story.at, encode_definition(definition), f"hash-{'orders' if text == ORDER else 'new'}", {})


def retained(story: Story, ages: Ages) -> Input:
    """Everything offered to retention, 30 years later."""
    state = story.state
    return Retain("orders", story.at + 10**18, ages, tuple(state.transactions), tuple(state.hits))


def redriven(story: Story, action: RedriveAction, item: int) -> Input:
    """An item of an order to redrive."""
    given = story.redrive_input(action, item)
    assert isinstance(given, Redrive)
    return given


GOOD = CallAnswer(200, {"content-type": "application/json"}, b'{"job_id": 42}')
INPUTS: dict[str, Callable[[Story], Input]] = {
    "answer": lambda story: ended(story, GOOD),
    "bad answer": lambda story: ended(story, CallAnswer(200, {}, b"oops")),
    "failure": lambda story: ended(story, CallFailure("sent", "reset")),
    "other attempt": lambda story: ended(story, GOOD, attempt=9),
    "other pass": lambda story: ended(story, GOOD, number=9),
    "other step": lambda story: ended(story, GOOD, step="changed"),
    "hold due": lambda story: HoldDue("orders", story.at + 10**18, story.only().id),
    "hold early": lambda story: HoldDue("orders", story.at, story.only().id),
    "park due": lambda story: ParkDue("orders", story.at + 10**18, story.only().hit),
    "continue": lambda story: Continue("orders", story.at, story.only().id),
    "deliver": lambda story: Deliver("orders", story.at),
    "recover": lambda story: Recover("orders", story.at, (story.only().hit,), (story.only().id,)),
    "reply sent": lambda story: ReplySettled("orders", story.at, story.only().hit, "sent"),
    "resend": lambda story: Settle("orders", story.at, story.only().id, "resend"),
    "done": lambda story: Settle("orders", story.at, story.only().id, "done"),
    "fail": lambda story: Settle("orders", story.at, story.only().id, "fail"),
    "trigger": lambda story: request(story, "placed", {"order": "B1"}),
    "repeat": lambda story: request(story, "placed", {"order": "A1"}, "k1"),
    "other body": lambda story: request(story, "placed", {"order": "A2"}, "k1"),
    "callback": lambda story: request(story, "changed", {"job_id": 42, "status": "Despatched"}),
    "stray": lambda story: request(story, "changed", {"job_id": 43, "status": "Despatched"}),
    "aim": aimed,
    "deploy same": lambda story: deployed(story, ORDER),
    "deploy new": lambda story: deployed(story, ORDER.replace("30 days", "31 days")),
    "start": lambda story: Start("orders", story.at),
    "stop": lambda story: Stop("orders", story.at, "stop"),
    "finish": lambda story: Stop("orders", story.at, "finish"),
    "call leaves": lambda story: CallLeaves("orders", story.at, story.only().id, "book", story.only().number, 1),
    "alert done": lambda story: AlertDone("orders", story.at, 1, "no answer"),
    "run once": lambda story: RunOnce("orders", story.at),
    "order": lambda story: OrderRedrive("", story.at, "o1", "", "resume", "d", (story.only().id,)),
    "resume": lambda story: redriven(story, "resume", story.only().id),
    "rerun": lambda story: redriven(story, "rerun", story.only().id),
    "redeliver": lambda story: redriven(story, "redeliver", story.only().trigger),
    "retain": lambda story: retained(story, Ages(1, 1, 1, 0)),
    "purge": lambda story: retained(story, Ages(0, 0, 0, 1)),
}
TABLE = """
running   answer        held      CallAnswered StepCompleted TransactionHeld
running   bad_answer    failed    CallAnswered IncidentRaised TransactionFailed
running   failure       failed    CallFailed IncidentRaised TransactionFailed
running   other_attempt running
running   other_pass    running
running   other_step    running
running   hold_due      running
running   hold_early    running
running   park_due      running
running   continue      running
running   deliver       running
running   recover       running   CallUnknown CallIntended
running   reply_sent    running
running   resend        running
running   done          running
running   fail          running
running   trigger       running   HitAccepted TransactionStarted PassStarted StepCompleted CallIntended
running   repeat        running   HitDuplicated
running   other_body    running
running   callback      running   HitAccepted HitParked
running   stray         running   HitAccepted HitParked
running   aim           running
running   deploy_same   running
running   deploy_new    running   CycleDeployed
running   start         running
running   stop          stopped   TransactionStopped CycleStopped
running   finish        running   CycleStopping
running   alert_done    running
running   call_leaves   running
running   run_once      running
running   order         running   RedriveOrdered
running   resume        running
running   rerun         running
running   redeliver     running
running   retain        running
running   purge         running
held      answer        held
held      bad_answer    held
held      failure       held
held      other_attempt held
held      other_pass    held
held      other_step    held
held      hold_due      completed HoldExpired TransactionCompleted
held      hold_early    held
held      park_due      held
held      continue      held
held      deliver       held
held      recover       held
held      reply_sent    held
held      resend        held
held      done          held
held      fail          held
held      trigger       held      HitAccepted TransactionStarted PassStarted StepCompleted CallIntended
held      repeat        held      HitDuplicated
held      other_body    held
held      callback      running   HitAccepted HitMatched PassStarted StepCompleted DecisionTaken CallIntended
held      stray         held      HitAccepted HitParked
held      aim           running   HitMatched PassStarted StepCompleted DecisionTaken CallIntended
held      deploy_same   held
held      deploy_new    held      CycleDeployed
held      start         held
held      stop          held      CycleStopped
held      finish        held      CycleStopping CycleStopped
held      alert_done    held
held      call_leaves   held
held      run_once      held
held      order         held      RedriveOrdered
held      resume        held
held      rerun         held      HitAccepted HitRedriven TransactionStarted PassStarted StepCompleted CallIntended
held      redeliver     held      HitAccepted HitRedriven TransactionStarted PassStarted StepCompleted CallIntended
held      retain        held
held      purge         held
queued    answer        completed CallAnswered StepCompleted TransactionCompleted
                                  PassStarted StepCompleted DecisionTaken TransactionCompleted
queued    bad_answer    completed CallAnswered StepCompleted TransactionCompleted
                                  PassStarted StepCompleted DecisionTaken TransactionCompleted
queued    failure       failed    CallFailed IncidentRaised TransactionFailed HitParked HitParked
queued    other_attempt running
queued    other_pass    running
queued    other_step    running
queued    hold_due      running
queued    hold_early    running
queued    park_due      running
queued    continue      running
queued    deliver       running
queued    recover       running   CallUnknown CallIntended
queued    reply_sent    running
queued    resend        running
queued    done          running
queued    fail          running
queued    trigger       running   HitAccepted TransactionStarted PassStarted StepCompleted CallIntended
queued    repeat        running   HitDuplicated
queued    other_body    running
queued    callback      running   HitAccepted HitMatched
queued    stray         running   HitAccepted HitParked
queued    aim           running   HitMatched
queued    deploy_same   running
queued    deploy_new    running   CycleDeployed
queued    start         running
queued    stop          stopped   TransactionStopped HitParked CycleStopped
queued    finish        running   CycleStopping
queued    alert_done    running
queued    call_leaves   running
queued    run_once      running
queued    order         running   RedriveOrdered
queued    resume        running
queued    rerun         running
queued    redeliver     running   HitAccepted HitRedriven TransactionStarted PassStarted StepCompleted CallIntended
queued    retain        running
queued    purge         running
completed answer        completed
completed bad_answer    completed
completed failure       completed
completed other_attempt completed
completed other_pass    completed
completed other_step    completed
completed hold_due      completed
completed hold_early    completed
completed park_due      completed
completed continue      completed
completed deliver       completed
completed recover       completed
completed reply_sent    completed
completed resend        completed
completed done          completed
completed fail          completed
completed trigger       completed HitAccepted TransactionStarted PassStarted StepCompleted CallIntended
completed repeat        completed HitDuplicated
completed other_body    completed
completed callback      running   HitAccepted HitMatched PassStarted StepCompleted DecisionTaken CallIntended
completed stray         completed HitAccepted HitParked
completed aim           running   HitMatched PassStarted StepCompleted DecisionTaken CallIntended
completed deploy_same   completed
completed deploy_new    completed CycleDeployed
completed start         completed
completed stop          completed CycleStopped
completed finish        completed CycleStopping CycleStopped
completed alert_done    completed
completed call_leaves   completed
completed run_once      completed
completed order         completed RedriveOrdered
completed resume        completed
completed rerun         completed HitAccepted HitRedriven TransactionStarted PassStarted StepCompleted CallIntended
completed redeliver     completed HitAccepted HitRedriven TransactionStarted PassStarted StepCompleted CallIntended
completed retain        removed   RetentionApplied
completed purge         completed BodiesPurged
failed    answer        failed
failed    bad_answer    failed
failed    failure       failed
failed    other_attempt failed
failed    other_pass    failed
failed    other_step    failed
failed    hold_due      failed
failed    hold_early    failed
failed    park_due      failed
failed    continue      failed
failed    deliver       failed
failed    recover       failed
failed    reply_sent    failed
failed    resend        failed
failed    done          failed
failed    fail          failed
failed    trigger       failed    HitAccepted TransactionStarted PassStarted StepCompleted CallIntended
failed    repeat        failed    HitDuplicated
failed    other_body    failed
failed    callback      failed    HitAccepted HitParked
failed    stray         failed    HitAccepted HitParked
failed    aim           failed
failed    deploy_same   failed
failed    deploy_new    failed    CycleDeployed
failed    start         failed
failed    stop          failed    CycleStopped
failed    finish        failed    CycleStopping CycleStopped
failed    alert_done    failed
failed    call_leaves   failed
failed    run_once      failed
failed    order         failed    RedriveOrdered
failed    resume        failed    HitAccepted HitRedriven TransactionResumed CallIntended
failed    rerun         failed    HitAccepted HitRedriven TransactionStarted PassStarted StepCompleted CallIntended
failed    redeliver     failed    HitAccepted HitRedriven TransactionStarted PassStarted StepCompleted CallIntended
failed    retain        removed   RetentionApplied
failed    purge         failed    BodiesPurged
stopped   answer        stopped
stopped   bad_answer    stopped
stopped   failure       stopped
stopped   other_attempt stopped
stopped   other_pass    stopped
stopped   other_step    stopped
stopped   hold_due      stopped
stopped   hold_early    stopped
stopped   park_due      stopped
stopped   continue      stopped
stopped   deliver       stopped
stopped   recover       stopped
stopped   reply_sent    stopped
stopped   resend        stopped
stopped   done          stopped
stopped   fail          stopped
stopped   trigger       stopped
stopped   repeat        stopped   HitDuplicated
stopped   other_body    stopped
stopped   callback      stopped
stopped   stray         stopped
stopped   aim           stopped
stopped   deploy_same   stopped
stopped   deploy_new    stopped   CycleDeployed
stopped   start         stopped   CycleStarted
stopped   stop          stopped
stopped   finish        stopped
stopped   alert_done    stopped
stopped   call_leaves   stopped
stopped   run_once      stopped   CycleOnce
stopped   order         stopped   RedriveOrdered
stopped   resume        stopped
stopped   rerun         stopped
stopped   redeliver     stopped
stopped   retain        removed   RetentionApplied
stopped   purge         stopped   BodiesPurged
unknown   answer        held
unknown   bad_answer    held
unknown   failure       held
unknown   other_attempt held
unknown   other_pass    held
unknown   other_step    held
unknown   hold_due      held
unknown   hold_early    held
unknown   park_due      held
unknown   continue      held
unknown   deliver       held
unknown   recover       held
unknown   reply_sent    held
unknown   resend        running   CallSettled CallIntended
unknown   done          failed    CallSettled StepCompleted IncidentRaised TransactionFailed
unknown   fail          failed    CallSettled TransactionFailed
unknown   trigger       held      HitAccepted TransactionStarted PassStarted StepCompleted CallIntended
unknown   repeat        held      HitDuplicated
unknown   other_body    held
unknown   callback      held      HitAccepted HitParked
unknown   stray         held      HitAccepted HitParked
unknown   aim           held
unknown   deploy_same   held
unknown   deploy_new    held      CycleDeployed
unknown   start         held
unknown   stop          held      CycleStopped
unknown   finish        held      CycleStopping CycleStopped
unknown   alert_done    held
unknown   call_leaves   held
announced answer        held      CallAnswered StepCompleted TransactionHeld
announced bad_answer    failed    CallAnswered IncidentRaised TransactionFailed
announced failure       failed    CallFailed IncidentRaised TransactionFailed
announced other_attempt running
announced other_pass    running
announced other_step    running
announced hold_due      running
announced hold_early    running
announced park_due      running
announced continue      running
announced deliver       running
announced recover       running   CallIntended
announced reply_sent    running
announced resend        running
announced done          running
announced fail          running
announced trigger       running   HitAccepted TransactionStarted PassStarted StepCompleted CallIntended
announced repeat        running   HitDuplicated
announced other_body    running
announced callback      running   HitAccepted HitParked
announced stray         running   HitAccepted HitParked
announced deploy_same   running
announced deploy_new    running   CycleDeployed
announced start         running
announced stop          stopped   TransactionStopped CycleStopped
announced finish        running   CycleStopping
announced retain        running
announced purge         running
announced alert_done    running
announced call_leaves   running   CallLeft
announced run_once      running
announced order         running   RedriveOrdered
announced resume        running
announced rerun         running
announced redeliver     running
announced aim           running
unknown   run_once      held
unknown   order         held      RedriveOrdered
unknown   resume        held
unknown   rerun         held
unknown   redeliver     held
unknown   retain        failed    IncidentRaised TransactionFailed
unknown   purge         held
halted    answer        held
halted    bad_answer    held
halted    failure       held
halted    other_attempt held
halted    other_pass    held
halted    other_step    held
halted    hold_due      held
halted    hold_early    held
halted    park_due      held
halted    continue      held
halted    deliver       held
halted    recover       held
halted    reply_sent    held
halted    resend        held
halted    done          held
halted    fail          held
halted    trigger       held
halted    repeat        held      HitDuplicated
halted    other_body    held
halted    callback      held
halted    stray         held
halted    aim           held
halted    deploy_same   held
halted    deploy_new    held      CycleDeployed
halted    start         held      CycleStarted
halted    stop          held
halted    finish        held
halted    alert_done    held
halted    call_leaves   held
halted    run_once      held      CycleOnce
halted    order         held      RedriveOrdered
halted    resume        held
halted    rerun         held
halted    redeliver     held
halted    retain        failed    IncidentRaised TransactionFailed
halted    purge         held
stopping  answer        held      CallAnswered StepCompleted TransactionHeld CycleStopped
stopping  bad_answer    failed    CallAnswered IncidentRaised TransactionFailed CycleStopped
stopping  failure       failed    CallFailed IncidentRaised TransactionFailed CycleStopped
stopping  other_attempt running
stopping  other_pass    running
stopping  other_step    running
stopping  hold_due      running
stopping  hold_early    running
stopping  park_due      running
stopping  continue      running
stopping  deliver       running
stopping  recover       running   CallUnknown CallIntended
stopping  reply_sent    running
stopping  resend        running
stopping  done          running
stopping  fail          running
stopping  trigger       running
stopping  repeat        running   HitDuplicated
stopping  other_body    running
stopping  callback      running
stopping  stray         running
stopping  aim           running
stopping  deploy_same   running
stopping  deploy_new    running   CycleDeployed
stopping  start         running   CycleStarted
stopping  stop          stopped   TransactionStopped CycleStopped
stopping  finish        running
stopping  alert_done    running
stopping  call_leaves   running
stopping  run_once      running
waiting   answer        held
waiting   bad_answer    held
waiting   failure       held
waiting   other_attempt held
waiting   other_pass    held
waiting   other_step    held
waiting   hold_due      held
waiting   hold_early    held
waiting   park_due      held
waiting   continue      held
waiting   deliver       held
waiting   recover       held
waiting   reply_sent    held
waiting   resend        held
waiting   done          held
waiting   fail          held
waiting   trigger       held      HitAccepted CycleOnceTaken TransactionStarted PassStarted StepCompleted CallIntended
waiting   repeat        held      HitDuplicated
waiting   other_body    held
waiting   callback      held
waiting   stray         held
waiting   aim           held
waiting   deploy_same   held
waiting   deploy_new    held      CycleDeployed
waiting   start         held      CycleStarted
waiting   stop          held      CycleStopped
waiting   finish        held      CycleStopped
waiting   run_once      held
waiting   order         held      RedriveOrdered
waiting   resume        held
waiting   rerun         held
waiting   redeliver     held
waiting   retain        failed    IncidentRaised TransactionFailed
waiting   purge         held
waiting   alert_done    held
waiting   call_leaves   held
once      answer        held      CallAnswered StepCompleted TransactionHeld CycleStopped
once      bad_answer    failed    CallAnswered IncidentRaised TransactionFailed CycleStopped
once      failure       failed    CallFailed IncidentRaised TransactionFailed CycleStopped
once      other_attempt running
once      other_pass    running
once      other_step    running
once      hold_due      running
once      hold_early    running
once      park_due      running
once      continue      running
once      deliver       running
once      recover       running   CallUnknown CallIntended
once      reply_sent    running
once      resend        running
once      done          running
once      fail          running
once      trigger       running
once      repeat        running   HitDuplicated
once      other_body    running
once      callback      running   HitAccepted HitParked
once      stray         running   HitAccepted HitParked
once      aim           running
once      deploy_same   running
once      deploy_new    running   CycleDeployed
once      start         running   CycleStarted
once      stop          stopped   TransactionStopped CycleStopped
once      finish        running
once      run_once      running
once      order         running   RedriveOrdered
once      resume        running
once      rerun         running
once      redeliver     running
once      retain        running
once      purge         running
once      alert_done    running
once      call_leaves   running
stopping  order         running   RedriveOrdered
stopping  resume        running
stopping  rerun         running
stopping  redeliver     running
stopping  retain        running
stopping  purge         running
"""
EXPECTED = {
    (given, when): (status, events)
    for given, when, status, *events in (line.split() for line in re.sub(r"\n +", " ", TABLE).strip().splitlines())
}


@pytest.mark.parametrize("given", STATES)
@pytest.mark.parametrize("when", INPUTS)
def test_each_input_in_each_state_does_what_the_table_says(given: str, when: str) -> None:
    """The status of the transaction and every event of the turn; replay gives the same state."""
    story = STATES[given]()
    story.put(INPUTS[when](story))
    status, events = EXPECTED[given, when.replace(" ", "_")]
    first = next(iter(story.state.transactions.values()), None)
    assert ("removed" if first is None else first.status, story.names()) == (status, events)
    assert digest(story.replayed()) == digest(story.state)


def test_the_table_has_a_line_for_every_pair_and_no_other() -> None:
    """A new state or input has to say what it means for all the others."""
    assert set(EXPECTED) == {(given, when.replace(" ", "_")) for given in STATES for when in INPUTS}
