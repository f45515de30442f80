/** The machine itself, walked: every state that a connection can be in × every event that can befall it there. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { type Effect, EVENTS, type Event, STATES, type State, transition } from './fsm.ts';
import { withDefaults } from './limits.ts';
import { associateRq, commandPdv, pData } from './parrot.fixture.ts';
import { APPLICATION_CONTEXT, type AssociateAc, type AssociateRq, encodePdu, PDU, type Pdu } from './pdu.ts';
import { PduReader } from './reader.ts';
import { REJECT } from './reasons.ts';
import { UpperLayer, type UpperLayerUser } from './upper-layer.ts';

const RQ = associateRq() as AssociateRq & Pdu;
const AC: AssociateAc = {
  protocolVersion: 1,
  calledAeTitle: 'SCP',
  callingAeTitle: 'PARROT',
  applicationContext: APPLICATION_CONTEXT,
  contexts: [{ id: 1, result: 0, transferSyntax: '1.2.840.10008.1.2' }],
  user: { roles: [], extended: [], commonExtended: [] },
};
const ECHO = pData(commandPdv(1, { commandField: 0x30, messageId: 1, hasData: false }));

/** An upper layer on a socket of our own: what it writes is heard, what its user is told is noted. */
class Bench {
  readonly said: Pdu[] = [];
  readonly told: string[] = [];
  readonly upper: UpperLayer;
  readonly socket: Socket;

  constructor(role: 'acceptor' | 'requestor', artimMs = 3_600_000) {
    const reader = new PduReader(
      { begin: () => {}, fragment: () => {}, endOfData: () => this.said.push(ECHO), pdu: (pdu) => this.said.push(pdu) },
      { controlPduLengthMax: 65536, pduLengthReceived: 65536 },
    );
    const duplex = new Duplex({
      read() {},
      write(chunk, _, done) {
        reader.push(chunk);
        done();
      },
    });
    Object.assign(duplex, {
      setNoDelay: () => duplex,
      setKeepAlive: () => duplex,
      destroySoon: () => duplex.destroy(),
    });
    this.socket = duplex as unknown as Socket;
    const tell = (what: string) => () => void this.told.push(what);
    const user: UpperLayerUser = {
      associateIndication: tell('indicate-associate'),
      associateConfirm: tell('confirm-accept'),
      fragment: tell('indicate-data'),
      received: () => {},
      releaseIndication: tell('indicate-release'),
      ended: ({ kind }) => this.told.push(`ended ${kind}`),
      socketClosed: () => {},
      failed: (error) => assert.fail(error as Error),
    };
    this.upper = new UpperLayer(this.socket, role, user, withDefaults({ artimMs }));
  }

  hear(pdu: Pdu | Buffer): void {
    this.socket.emit('data', Buffer.isBuffer(pdu) ? pdu : encodePdu(pdu));
  }
}

const acceptor = (artimMs?: number) => {
  const bench = new Bench('acceptor', artimMs);
  bench.upper.accepted();
  return bench;
};
const requestor = () => {
  const bench = new Bench('requestor');
  bench.upper.associate(RQ);
  return bench;
};
const then = (bench: Bench, ...steps: ((bench: Bench) => void)[]) => {
  for (const step of steps) step(bench);
  return bench;
};
const hear = (pdu: Pdu) => (bench: Bench) => bench.hear(pdu);
const release = (bench: Bench) => void bench.upper.requestRelease();
const RELEASE_RQ: Pdu = { type: PDU.RELEASE_RQ };
const RELEASE_RP: Pdu = { type: PDU.RELEASE_RP };
const established = () => then(acceptor(), hear(RQ), (bench) => bench.upper.accept(AC));

/** How to get there. Sta4 is inside net.connect: no upper layer exists yet. */
const PATHS: Partial<Record<State, (artimMs?: number) => Bench>> = {
  Sta1: () => new Bench('acceptor'),
  Sta2: acceptor,
  Sta3: () => then(acceptor(), hear(RQ)),
  Sta5: requestor,
  Sta6: established,
  Sta7: () => then(requestor(), hear({ type: PDU.ASSOCIATE_AC, ...AC }), release),
  Sta8: () => then(established(), hear(RELEASE_RQ)),
  Sta9: () => then(requestor(), hear({ type: PDU.ASSOCIATE_AC, ...AC }), release, hear(RELEASE_RQ)),
  Sta10: () => then(established(), release, hear(RELEASE_RQ)),
  Sta11: () => then(PATHS.Sta9!(), (bench) => bench.upper.respondRelease()),
  Sta12: () => then(PATHS.Sta10!(), hear(RELEASE_RP)),
  Sta13: (artimMs) => then(acceptor(artimMs), hear({ ...RQ, protocolVersion: 2 } as Pdu)),
};

/** How to make it happen. Evt1, Evt2 and Evt5 are the paths to Sta5 and Sta2 themselves; Evt18 has a test of its own. */
const EVENT: Partial<Record<Event, (bench: Bench) => void>> = {
  Evt3: hear({ type: PDU.ASSOCIATE_AC, ...AC }),
  Evt4: hear({ type: PDU.ASSOCIATE_RJ, result: 1, source: 1, reason: 1 }),
  Evt6: hear(RQ),
  Evt7: (bench) => void bench.upper.accept(AC),
  Evt8: (bench) => bench.upper.reject(REJECT.calledAeTitle),
  Evt9: (bench) => void bench.upper.write([encodePdu(ECHO)]).catch(() => bench.told.push('write refused')),
  Evt10: hear(ECHO),
  Evt11: release,
  Evt12: hear(RELEASE_RQ),
  Evt13: hear(RELEASE_RP),
  Evt14: (bench) => bench.upper.respondRelease(),
  Evt15: (bench) => bench.upper.abort({ kind: 'aborted', detail: 'x' }),
  Evt16: hear({ type: PDU.ABORT, source: 2, reason: 0 }),
  Evt17: (bench) => void bench.socket.emit('end'),
  Evt19: (bench) => bench.hear(Buffer.from('2a0000000000', 'hex')),
};

const SAYS: Partial<Record<Effect, (pdu: Pdu) => boolean>> = {
  'send-ac': (pdu) => pdu.type === PDU.ASSOCIATE_AC,
  'send-rj': (pdu) => pdu.type === PDU.ASSOCIATE_RJ,
  'send-data': (pdu) => pdu.type === PDU.P_DATA_TF,
  'send-release-rq': (pdu) => pdu.type === PDU.RELEASE_RQ,
  'send-release-rp': (pdu) => pdu.type === PDU.RELEASE_RP,
  'send-abort-user': (pdu) => pdu.type === PDU.ABORT && pdu.source === 0,
  'send-abort-provider': (pdu) => pdu.type === PDU.ABORT && pdu.source === 2,
};

let walked = 0;
for (const [state, path] of Object.entries(PATHS) as [State, () => Bench][]) {
  test(`${state} (${STATES[state]}) × every event`, async () => {
    for (const [event, happen] of Object.entries(EVENT) as [Event, (bench: Bench) => void][]) {
      const name = `${state} × ${event} (${EVENTS[event]})`;
      const bench = path();
      assert.equal(bench.upper.state, state, name);
      bench.said.length = 0;
      bench.told.length = 0;
      const endedBefore = bench.upper.endedBecause;
      // AR-8 branches by side, AE-6 does not here: the request is acceptable.
      const step = transition(state, event, state === 'Sta7' ? false : event === 'Evt12');
      happen(bench);
      // The refusal of a write comes as a rejection.
      await new Promise((resolve) => setImmediate(resolve));
      const effects = step?.effects ?? [];
      // The table has no A-ABORT request before there is a user to make it: we just hang up.
      const hungUp = state === 'Sta2' && event === 'Evt15';
      assert.equal(bench.upper.state, hungUp ? 'Sta1' : (step?.next ?? state), name);
      const expected = effects.filter((effect) => effect in SAYS);
      assert.equal(bench.said.length, expected.length, `${name} says ${JSON.stringify(bench.said)}`);
      expected.forEach((effect, n) => {
        assert.ok(SAYS[effect]!(bench.said[n]!), `${name}: ${effect}`);
      });
      for (const effect of ['indicate-associate', 'confirm-accept', 'indicate-data', 'indicate-release'] as const) {
        // AR-10 confirms to the acceptor, whose turn it then is to answer.
        const wanted = effects.includes(effect) || (effect === 'indicate-release' && step?.action === 'AR-10');
        assert.equal(bench.told.includes(effect), wanted, `${name}: ${effect}`);
      }
      if (effects.includes('close')) assert.ok(bench.socket.destroyed, name);
      const over = step !== undefined && (step.next === 'Sta1' || step.next === 'Sta13');
      if (over && endedBefore === undefined) {
        assert.equal(bench.told.filter((what) => what.startsWith('ended')).length, 1, `${name}: told once`);
      }
      bench.socket.destroy();
      walked++;
    }
  });
}

test('all of it was walked', () => {
  assert.equal(walked, 12 * 15);
});

for (const state of ['Sta2', 'Sta13'] as const) {
  test(`${state} × Evt18: ARTIM closes the connection`, async () => {
    const bench = PATHS[state]!(100);
    await once(bench.socket, 'close');
    assert.equal(bench.upper.state, 'Sta1');
    assert.equal(bench.upper.endedBecause?.kind, state === 'Sta2' ? 'timeout' : 'rejected');
  });
}
