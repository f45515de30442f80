import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { pythonWithPynetdicom, without } from '../../../tools/setup/peers.ts';
import { ACTIONS, EVENTS, type Event, STATES, type State, TRANSITIONS, transition } from './fsm.ts';

/** PS3.8 Table 9-10 as it is printed: a row an event, a column a state. Typed from the standard, not from fsm.ts. */
const PRINTED = `
Evt1  AE-1 .    .    .    .    .    .    .    .    .     .    .    .
Evt2  .    .    .    AE-2 .    .    .    .    .    .     .    .    .
Evt3  .    AA-1 AA-8 .    AE-3 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
Evt4  .    AA-1 AA-8 .    AE-4 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
Evt5  AE-5 .    .    .    .    .    .    .    .    .     .    .    .
Evt6  .    AE-6 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-7
Evt7  .    .    AE-7 .    .    .    .    .    .    .     .    .    .
Evt8  .    .    AE-8 .    .    .    .    .    .    .     .    .    .
Evt9  .    .    .    .    .    DT-1 .    AR-7 .    .     .    .    .
Evt10 .    AA-1 AA-8 .    AA-8 DT-2 AR-6 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
Evt11 .    .    .    .    .    AR-1 .    .    .    .     .    .    .
Evt12 .    AA-1 AA-8 .    AA-8 AR-2 AR-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-6
Evt13 .    AA-1 AA-8 .    AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3 AA-8 AA-6
Evt14 .    .    .    .    .    .    .    AR-4 AR-9 .     .    AR-4 .
Evt15 .    .    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1 AA-1 .
Evt16 .    AA-2 AA-3 .    AA-3 AA-3 AA-3 AA-3 AA-3 AA-3  AA-3 AA-3 AA-2
Evt17 .    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4 AA-4 AR-5
Evt18 .    AA-2 .    .    .    .    .    .    .    .     .    .    AA-2
Evt19 .    AA-1 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-7`;

/** Tables 9-6 to 9-9: where each action ends. */
const NEXT: Record<string, State | [State, State]> = {
  'AE-1': 'Sta4',
  'AE-2': 'Sta5',
  'AE-3': 'Sta6',
  'AE-4': 'Sta1',
  'AE-5': 'Sta2',
  'AE-6': ['Sta3', 'Sta13'],
  'AE-7': 'Sta6',
  'AE-8': 'Sta13',
  'DT-1': 'Sta6',
  'DT-2': 'Sta6',
  'AR-1': 'Sta7',
  'AR-2': 'Sta8',
  'AR-3': 'Sta1',
  'AR-4': 'Sta13',
  'AR-5': 'Sta1',
  'AR-6': 'Sta7',
  'AR-7': 'Sta8',
  'AR-8': ['Sta9', 'Sta10'],
  'AR-9': 'Sta11',
  'AR-10': 'Sta12',
  'AA-1': 'Sta13',
  'AA-2': 'Sta1',
  'AA-3': 'Sta1',
  'AA-4': 'Sta1',
  'AA-5': 'Sta1',
  'AA-6': 'Sta13',
  'AA-7': 'Sta13',
  'AA-8': 'Sta13',
};

test('every state × event does what PS3.8 Table 9-10 says', () => {
  let cells = 0;
  let walked = 0;
  for (const line of PRINTED.trim().split('\n')) {
    const [event, ...actions] = line.split(/\s+/) as [Event, ...string[]];
    assert.ok(event in EVENTS);
    assert.equal(actions.length, 13);
    actions.forEach((action, n) => {
      const state = `Sta${n + 1}` as State;
      cells++;
      const step = transition(state, event);
      if (action === '.') {
        assert.equal(step, undefined, `${state} ${event} cannot happen`);
        return;
      }
      walked++;
      assert.equal(step?.action, action, `${state} × ${event}`);
      const next = NEXT[action]!;
      assert.equal(step?.next, Array.isArray(next) ? next[0] : next);
      assert.equal(transition(state, event, true)?.next, Array.isArray(next) ? next[1] : next);
    });
  }
  assert.equal(cells, Object.keys(STATES).length * Object.keys(EVENTS).length);
  assert.equal(walked, 123);
  assert.deepEqual(Object.keys(ACTIONS).sort(), Object.keys(NEXT).sort());
});

test('every abort goes out and is told, ARTIM runs wherever we wait for the peer to close', () => {
  for (const [name, row] of Object.entries(ACTIONS)) {
    const effects: readonly string[] = row.effects;
    if (name === 'AA-1') assert.ok(effects.includes('send-abort-user'));
    if (name === 'AA-7' || name === 'AA-8') assert.ok(effects.includes('send-abort-provider'));
    // AA-6 and AA-7 stay in Sta13, where it runs already.
    if (row.next === 'Sta13' && name !== 'AA-6' && name !== 'AA-7') assert.ok(effects.includes('start-artim'), name);
  }
});

test('pynetdicom has the same table', { skip: without('pynetdicom') }, () => {
  const script = 'from pynetdicom.fsm import TRANSITION_TABLE as T\nfor (e,s),a in T.items(): print(e,s,a)';
  const theirs = execFileSync(pythonWithPynetdicom(), ['-c', script], { encoding: 'utf8' }).trim().split('\n').sort();
  const ours = Object.entries(TRANSITIONS).flatMap(([state, row]) =>
    Object.entries(row).map(([event, action]) => `${event} ${state} ${action}`),
  );
  assert.deepEqual(ours.sort(), theirs);
});
