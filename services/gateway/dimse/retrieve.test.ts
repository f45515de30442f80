// C-MOVE and C-GET against the real archive: counters, refusals, transfer syntaxes, destinations that fail (PS3.4 §C.4.2, §C.4.3).
import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { before, describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { COMMAND } from '#dimse/command.ts';
import type { Response } from '#dimse/scu.ts';
import {
  bytesOf,
  CT,
  EXPLICIT,
  got,
  house,
  IMPLICIT,
  instance,
  JPEG,
  keep,
  MR,
  moved,
  PATIENT_ROOT,
  type Peer,
  peer,
  query,
  STUDY_ROOT,
  type TestHouse,
} from './house.testing.ts';

const FAILED_UIDS = 0x00080058;
const failedUids = (response: Response): string[] =>
  response.data === undefined
    ? []
    : new DataSet({ buffer: response.data, transferSyntaxUid: response.transferSyntax }).strings(FAILED_UIDS);
const counters = ({ command }: Response) => [
  command.remainingSubOperations,
  command.completedSubOperations,
  command.failedSubOperations,
  command.warningSubOperations,
];

describe('retrieving', () => {
  let archive: TestHouse;
  let destination: Peer;
  const hooks: { answer?: (n: number) => number | Promise<number>; seen: number } = { seen: 0 };
  const stored = [1, 2, 3, 4].map((n) => instance(n));
  const compressed = instance(1, { study: '1.4', series: '1.4.1', sop: '1.4.1.1', transferSyntax: JPEG });
  const withSyntaxes = [compressed, instance(2, { study: '1.4', series: '1.4.1', sop: '1.4.1.2' })];
  const both = (transferSyntax: string) =>
    instance(7, { study: '1.7', series: '1.7.1', sop: '1.7.1.7', transferSyntax, patientId: 'P7' });

  before(async () => {
    destination = await peer({
      // A workstation without codecs; MR it takes as Implicit only.
      accepts: (abstractSyntax, uid) => uid !== JPEG && (abstractSyntax !== MR || uid === IMPLICIT),
      answer: () => hooks.answer?.(hooks.seen++) ?? 0,
    });
    archive = await house({
      settings: {
        'dimse.pendingMs': 100,
        peers: [
          { aeTitle: 'WORKSTATION', host: '127.0.0.1', port: destination.port },
          { aeTitle: 'NOWHERE', host: '127.0.0.1', port: 1, connectTimeoutMs: 1000 },
          { aeTitle: 'CALLSONLY' },
          { aeTitle: 'IMPLICITONLY', host: '127.0.0.1', port: destination.port, transferSyntaxes: [IMPLICIT] },
          { aeTitle: 'EXPLICITFAN', renditionPreference: [EXPLICIT] },
        ],
      },
    });
    await keep(archive, ...stored, ...withSyntaxes, both(JPEG), both(EXPLICIT));
    await keep(archive, instance(9, { study: '1.9', series: '1.9.1', sop: '1.9.1.1', sopClass: MR }));
  });
  const reset = (answer?: (n: number) => number | Promise<number>) => {
    delete hooks.answer;
    if (answer !== undefined) hooks.answer = answer;
    hooks.seen = 0;
    destination.received.length = 0;
    destination.associations.length = 0;
  };
  const move = async (to: string, request: Buffer, sopClass = STUDY_ROOT.move) => {
    const association = await archive.connect({
      contexts: [{ abstractSyntax: sopClass, transferSyntaxes: [EXPLICIT] }],
    });
    const responses = await moved(association, to, request, sopClass);
    await association.release();
    return responses;
  };
  const ct = (...transferSyntaxes: string[]) => [{ abstractSyntax: CT, transferSyntaxes }];

  test('C-MOVE: every byte, live counters, the originator in each C-STORE-RQ', async () => {
    reset();
    const responses = await move('WORKSTATION', query('STUDY', { study: '1.2.3' }));
    assert.deepEqual(
      destination.received.map(({ data }) => data),
      stored.map(bytesOf),
    );
    const { command } = destination.received[0]!;
    assert.equal(command.moveOriginatorAeTitle, 'MODALITY');
    assert.equal(command.moveOriginatorMessageId, 1);
    const final = responses.at(-1)!;
    assert.equal(final.status, 0);
    assert.deepEqual(counters(final), [undefined, 4, 0, 0]); // Remaining only while pending
    assert.ok(responses.slice(0, -1).every(({ status }) => status === 0xff00));
    assert.deepEqual(responses.slice(0, -1).map(counters).at(-1), [1, 3, 0, 0]);
    assert.equal(destination.associations.length, 1);
  });

  test('C-MOVE to a slow destination: a pending response at least every dimse.pendingMs', async () => {
    let pending = 0;
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    reset((n) => (n === 0 ? held.then(() => 0) : 0));
    const association = await archive.connect();
    const { move: call } = await import('#dimse/scu.ts');
    let final = -1;
    for await (const { status, command } of call(
      association,
      STUDY_ROOT.move,
      'WORKSTATION',
      query('STUDY', { study: '1.2.3' }),
    )) {
      // Three in which nothing was completed can only come from the clock.
      if (command.completedSubOperations === 0 && ++pending === 3) release();
      final = status;
    }
    assert.equal(final, 0);
    await association.release();
  });

  test('an unknown destination, and one without an address: A801', async () => {
    for (const title of ['STRANGER', 'CALLSONLY', '']) {
      const responses = await move(title, query('STUDY', { study: '1.2.3' }));
      assert.deepEqual(
        responses.map(({ status }) => status),
        [0xa801],
      );
    }
  });

  test('nothing matched: success, and no association is opened', async () => {
    reset();
    const responses = await move('WORKSTATION', query('STUDY', { study: '9.9.9' }));
    assert.deepEqual(
      responses.map(({ status }) => status),
      [0],
    );
    assert.deepEqual(counters(responses[0]!), [undefined, 0, 0, 0]);
    assert.equal(destination.associations.length, 0);
  });

  test('some failed: B000 and their UIDs; 0111 is a warning; all failed: A702', async () => {
    reset((n) => [0, 0xa700, 0x0111, 0xb007][n]!);
    let final = (await move('WORKSTATION', query('STUDY', { study: '1.2.3' }))).at(-1)!;
    assert.equal(final.status, 0xb000);
    assert.deepEqual(counters(final), [undefined, 1, 1, 2]);
    assert.deepEqual(failedUids(final), ['1.2.3.1.2']);
    reset(() => 0xc000);
    final = (await move('WORKSTATION', query('STUDY', { study: '1.2.3' }))).at(-1)!;
    assert.equal(final.status, 0xa702);
    assert.equal(failedUids(final).length, 4);
  });

  test('an unreachable destination: A702, every UID, and one attempt to connect', async () => {
    const final = (await move('NOWHERE', query('STUDY', { study: '1.2.3' }))).at(-1)!;
    assert.equal(final.status, 0xa702);
    assert.equal(failedUids(final).length, 4);
  });

  test('a destination that breaks off costs the instance it broke over; the next go on a new association', async () => {
    reset((n) => {
      if (n === 1) destination.associations.at(-1)!.abort();
      return 0;
    });
    const final = (await move('WORKSTATION', query('STUDY', { study: '1.2.3' }))).at(-1)!;
    assert.equal(final.status, 0xb000);
    assert.deepEqual(failedUids(final), ['1.2.3.1.2']);
    assert.equal(destination.associations.length, 2);
    // One that breaks over everything is given up.
    reset(() => {
      destination.associations.at(-1)!.abort();
      return 0;
    });
    const second = (await move('WORKSTATION', query('STUDY', { study: '1.2.3' }))).at(-1)!;
    assert.equal(second.status, 0xa702);
    assert.equal(failedUids(second).length, 4);
    assert.equal(destination.associations.length, 2);
  });

  test('compressed pixels that a peer cannot take fail alone; uncompressed ones go as Implicit where it takes only that', async () => {
    reset();
    const final = (await move('WORKSTATION', query('STUDY', { study: '1.4' }))).at(-1)!;
    assert.equal(final.status, 0xb000);
    assert.deepEqual(failedUids(final), ['1.4.1.1']);
    reset();
    assert.equal((await move('WORKSTATION', query('STUDY', { study: '1.9' }))).at(-1)!.status, 0);
    assert.equal(destination.received[0]!.transferSyntax, IMPLICIT);
    const sent = new DataSet({ buffer: destination.received[0]!.data, transferSyntaxUid: IMPLICIT });
    assert.equal(sent.string(0x00080018), '1.9.1.1');
    assert.deepEqual(
      sent.get(0x7fe00010)?.bytes,
      new DataSet({ buffer: bytesOf(instance(9)), transferSyntaxUid: EXPLICIT }).get(0x7fe00010)?.bytes,
    );
  });

  test('syntaxes configured for a peer are all that it is sent; with none that fits, no association', async () => {
    reset();
    assert.equal((await move('IMPLICITONLY', query('STUDY', { study: '1.2.3' }))).at(-1)!.status, 0);
    assert.ok(destination.received.every(({ transferSyntax }) => transferSyntax === IMPLICIT));
    reset();
    const one = query('IMAGE', { study: '1.4', series: '1.4.1', sop: '1.4.1.1' });
    assert.equal((await move('IMPLICITONLY', one)).at(-1)!.status, 0xa702);
    assert.equal(destination.associations.length, 0);
  });

  test('an instance kept in two syntaxes goes in one that the peer takes', async () => {
    reset();
    assert.equal((await move('WORKSTATION', query('STUDY', { study: '1.7' }))).at(-1)!.status, 0);
    assert.deepEqual(
      destination.received.map(({ transferSyntax }) => transferSyntax),
      [EXPLICIT],
    );
    // Where both are taken: what shows (the first that came), or what the peer prefers.
    const contexts = [...ct(JPEG), ...ct(EXPLICIT)];
    for (const [callingAeTitle, expected] of [
      ['MODALITY', JPEG],
      ['EXPLICITFAN', EXPLICIT],
    ] as const) {
      const { received } = await got(archive, contexts, query('STUDY', { study: '1.7' }), () => 0, callingAeTitle);
      assert.deepEqual(
        received.map(({ transferSyntax }) => transferSyntax),
        [expected],
      );
    }
  });

  test('a study of more classes than 128 contexts hold takes several associations', async () => {
    const classes = Array.from({ length: 70 }, (_, n) =>
      instance(n, { study: '1.8', series: '1.8.1', sop: `1.8.1.${n}`, sopClass: `1.2.826.0.1.3680043.2.1125.${n}` }),
    );
    await keep(archive, ...classes);
    reset();
    const final = (await move('WORKSTATION', query('STUDY', { study: '1.8' }))).at(-1)!;
    assert.equal(final.status, 0);
    assert.equal(destination.received.length, 70);
    assert.equal(destination.associations.length, 2);
  });

  test('C-MOVE to ourselves: stored again, found once', async () => {
    const responses = await move('GANTRY', query('STUDY', { study: '1.2.3' }));
    assert.equal(responses.at(-1)!.status, 0);
    assert.deepEqual(counters(responses.at(-1)!), [undefined, 4, 0, 0]);
    const { received } = await got(archive, ct(EXPLICIT), query('STUDY', { study: '1.2.3' }));
    assert.equal(received.length, 4);
  });

  test('C-MOVE to ourselves at an address that others can reach, where only configured peers are served', async () => {
    const address = Object.values(networkInterfaces())
      .flat()
      .find((one) => one !== undefined && !one.internal && one.family === 'IPv4')?.address;
    const host = address ?? '127.0.0.1'; // a machine without a network: nothing beyond loopback to test
    const other = await house({ settings: { 'dimse.host': host, peers: [{ aeTitle: 'MODALITY' }] } });
    const reachable = { ...other, connect: (more = {}) => other.connect({ host, ...more }) };
    await keep(reachable, instance(1));
    const association = await reachable.connect();
    const responses = await moved(association, 'GANTRY', query('STUDY', { study: '1.2.3' }));
    assert.deepEqual(counters(responses.at(-1)!), [undefined, 1, 0, 0]);
    await association.release();
    if (address !== undefined)
      await assert.rejects(reachable.connect({ callingAeTitle: 'STRANGER' }), { code: 'rejected' });
  });

  test('Patient Root: by patient, and a Patient ID that contradicts the study finds nothing', async () => {
    reset();
    await move('WORKSTATION', query('PATIENT', { patient: 'P7' }), PATIENT_ROOT.move);
    assert.equal(destination.received.length, 1);
    reset();
    const none = await move('WORKSTATION', query('STUDY', { patient: 'P7', study: '1.2.3' }), PATIENT_ROOT.move);
    assert.deepEqual(counters(none.at(-1)!), [undefined, 0, 0, 0]);
    const empty = await move('WORKSTATION', query('PATIENT', { patient: '' }), PATIENT_ROOT.move);
    assert.equal(empty.at(-1)!.status, 0xa900);
    assert.deepEqual(empty.at(-1)!.command.offendingElement, [0x00100020]);
  });

  test('C-CANCEL: FE00 with what remains, after the sub-operation at work', async () => {
    const association = await archive.connect();
    const context = association.findContext(STUDY_ROOT.move)!;
    reset(async (n) => {
      // In the middle of the first one.
      if (n === 0) await association.cancel(context.id, 77);
      return 0;
    });
    const command = {
      commandField: COMMAND.C_MOVE_RQ,
      affectedSopClassUid: STUDY_ROOT.move,
      moveDestination: 'WORKSTATION',
      priority: 0,
      messageId: 77,
    };
    const final = await association.request(context.id, command, query('STUDY', { study: '1.2.3' }));
    assert.equal(final.command.status, 0xfe00);
    const { remainingSubOperations: remaining, completedSubOperations: completed } = final.command;
    assert.equal(remaining! + completed!, 4);
    assert.ok(remaining! > 0);
    await association.release();
  });

  test('C-GET: stored bytes on the contexts that the caller is SCP of', async () => {
    const { responses, received } = await got(archive, ct(EXPLICIT), query('STUDY', { study: '1.2.3' }));
    assert.equal(responses.at(-1)!.status, 0);
    assert.deepEqual(
      received.map(({ data }) => data),
      stored.map(bytesOf),
    );
    assert.deepEqual(counters(responses.at(-1)!), [undefined, 4, 0, 0]);
  });

  test('C-GET without role selection: nothing can be sent, A702, and the association lives', async () => {
    const association = await archive.connect({
      contexts: [{ abstractSyntax: STUDY_ROOT.get, transferSyntaxes: [EXPLICIT] }, ...ct(EXPLICIT)],
    });
    const { get } = await import('#dimse/scu.ts');
    const responses: Response[] = [];
    for await (const response of get(association, STUDY_ROOT.get, query('STUDY', { study: '1.2.3' }), async () => 0))
      responses.push(response);
    assert.equal(responses.at(-1)!.status, 0xa702);
    assert.equal(failedUids(responses.at(-1)!).length, 4);
    await association.release();
    assert.equal((await association.closed).kind, 'released');
  });

  test('a caller that leaves ends its C-MOVE, and the destination is let go', async () => {
    const association = await archive.connect();
    reset(async (n) => {
      if (n === 0) association.abort();
      return 0;
    });
    await assert.rejects(moved(association, 'WORKSTATION', query('STUDY', { study: '1.2.3' })));
    await destination.associations[0]!.closed;
    assert.ok(destination.received.length < 4);
  });

  test('dimse.retrievesMax: one more is A701, and the next is served', async () => {
    archive.context.change({ 'dimse.retrievesMax': 1 });
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let began = () => {};
    const first = new Promise<void>((resolve) => {
      began = resolve;
    });
    reset(async () => {
      began();
      await held;
      return 0;
    });
    const slow = move('WORKSTATION', query('STUDY', { study: '1.2.3' }));
    await first;
    const refused = await move('WORKSTATION', query('STUDY', { study: '1.2.3' }));
    assert.equal(refused.at(-1)!.status, 0xa701);
    release();
    assert.equal((await slow).at(-1)!.status, 0);
    assert.equal((await move('WORKSTATION', query('STUDY', { study: '1.2.3' }))).at(-1)!.status, 0);
    archive.context.change({ 'dimse.retrievesMax': 32 });
  });

  test('each retrieval is in the audit trail with its studies, however it ended', () => {
    const events = archive.context.audit.recorded
      .map(({ event }) => event)
      .filter(({ useCase }) => useCase === 'dimse.c-move' || useCase === 'dimse.c-get');
    assert.ok(events.some(({ outcome, objects }) => outcome === 0 && objects[0]?.id === '1.2.3'));
    assert.ok(events.some(({ outcome, detail }) => outcome === 8 && detail?.destination === 'STRANGER'));
    assert.ok(events.every(({ source }) => source?.aeTitle !== ''));
  });
});
