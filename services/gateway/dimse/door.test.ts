// The door in front of the real archive: dispatch, C-ECHO, C-STORE, C-FIND, limits, and what happens when something breaks.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { DataSet } from '#dicom/dataset.ts';
import { Tag } from '#dicom/tags.ts';
import { COMMAND } from '#dimse/command.ts';
import { echo, find, type Response, store } from '#dimse/scu.ts';
import type { Association, ConnectOptions } from '#dimse/types.ts';
import { GantryError } from '#platform/errors.ts';
import type { Module } from '#platform/module.ts';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { AuthService } from '#proto/auth/v1/auth.ts';
import { DimseService } from '#proto/gateway/v1/gateway.ts';
import {
  bytesOf,
  CT,
  EXPLICIT,
  got,
  house,
  IMPLICIT,
  identifier,
  instance,
  keep,
  offer,
  PATIENT_ROOT,
  query,
  STUDY_ROOT,
  type TestHouse,
  until,
  VERIFICATION,
} from './house.testing.ts';
import { dimseModule } from './module.ts';
import { MODELS, SERVICES, serviceFor, servicesOf } from './services.ts';

async function found(association: Association, request: Buffer, sopClass = STUDY_ROOT.find): Promise<Response[]> {
  const responses: Response[] = [];
  for await (const response of find(association, sopClass, request)) responses.push(response);
  return responses;
}
const rejected = (text: string) => (error: { closeReason?: { result?: number; source?: number; reason?: number } }) =>
  `${error.closeReason?.result}/${error.closeReason?.source}/${error.closeReason?.reason}` === text;

describe('the DIMSE door', () => {
  let archive: TestHouse;
  before(async () => {
    archive = await house({ settings: { peers: [{ aeTitle: 'LENIENT', relationalLenient: true }] } });
    await keep(archive, ...[1, 2, 3].map((n) => instance(n)));
    await keep(archive, instance(1, { study: '1.5', series: '1.5.1', sop: '1.5.1.1', patientId: 'P5' }));
  });
  const finding = async (request: Buffer, more: Partial<ConnectOptions> = {}, sopClass = STUDY_ROOT.find) => {
    const association = await archive.connect({
      contexts: [{ abstractSyntax: sopClass, transferSyntaxes: [EXPLICIT] }],
      ...more,
    });
    const responses = await found(association, request, sopClass);
    await association.release();
    return responses;
  };
  const relational = (sopClassUid: string) => [{ sopClassUid, info: Buffer.from([1]) }];

  test('C-ECHO', async () => {
    const association = await archive.connect();
    assert.equal((await echo(association)).status, 0);
    await association.release();
    assert.equal((await association.closed).kind, 'released');
  });

  test('who may not come in is in the audit trail: who it said to be, from where, and why', async () => {
    await assert.rejects(archive.connect({ callingAeTitle: 'STRAY', calledAeTitle: 'OTHER' }), rejected('1/1/7'));
    const { call, event } = archive.context.audit.recorded.find(
      ({ event }) => event.useCase === 'dimse.association-rejected',
    )!;
    assert.deepEqual([event.event, event.outcome, call.principal.id], ['Security Alert', 4, 'STRAY']);
    assert.deepEqual(event.source, { aeTitle: 'STRAY', address: '127.0.0.1' });
    assert.deepEqual(event.objects, [{ type: 'system', id: 'OTHER' }]);
    assert.match(String(event.detail?.reject), /called AE title not recognized/);
  });

  test('an operation that a context does not have: 0211, and the association lives', async () => {
    const association = await archive.connect();
    const context = association.findContext(VERIFICATION)!;
    const command = { commandField: COMMAND.C_FIND_RQ, affectedSopClassUid: VERIFICATION };
    assert.equal((await association.request(context.id, command, query('STUDY'))).command.status, 0x0211);
    assert.equal((await echo(association)).status, 0);
    await association.release();
  });

  test('a storage context on which role selection left the caller no SCU: 0124', async () => {
    const association = await archive.connect({
      contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
      roles: [{ sopClassUid: CT, scu: false, scp: true }],
    });
    const { status } = await store(association, {
      contextId: 1,
      sopClassUid: CT,
      sopInstanceUid: '1.2.3.1.77',
      data: bytesOf(instance(77)),
    });
    assert.equal(status, 0x0124);
    await association.release();
  });

  test('user identity: taken, not verified, and no response claims that it was', async () => {
    const userIdentity = {
      type: 2,
      positiveResponseRequested: true,
      primary: Buffer.from('user'),
      secondary: Buffer.from('secret'),
    };
    const association = await archive.connect({ userIdentity });
    assert.equal(association.ac.user.userIdentityResponse, undefined);
    assert.equal((await echo(association)).status, 0);
    await association.release();
  });

  test('C-FIND: what was just stored is found, at every level, without waiting', async () => {
    for (let n = 20; n < 30; n++) {
      await keep(archive, instance(n, { study: `1.6.${n}`, series: `1.6.${n}.1`, sop: `1.6.${n}.1.1` }));
      const responses = await finding(query('STUDY', { study: `1.6.${n}` }));
      assert.deepEqual(
        responses.map(({ status }) => status),
        [0xff00, 0],
      );
    }
    const images = await finding(query('IMAGE', { study: '1.2.3', series: '1.2.3.1', sop: '' }));
    const uids = images.flatMap(({ data }) =>
      data === undefined ? [] : [new DataSet({ buffer: data, transferSyntaxUid: EXPLICIT }).string(Tag.SOPInstanceUID)],
    );
    assert.deepEqual(uids.sort(), ['1.2.3.1.1', '1.2.3.1.2', '1.2.3.1.3']);
    const patients = await finding(query('PATIENT', { patient: 'P5' }), {}, PATIENT_ROOT.find);
    assert.equal(patients.length, 2);
  });

  test('C-FIND: keys above the level missing: A900, unless relational queries were negotiated or the peer is lenient', async () => {
    const images = query('IMAGE', { sop: '' });
    const refused = (await finding(images)).at(-1)!;
    assert.equal(refused.status, 0xa900);
    assert.deepEqual(refused.command.offendingElement, [Tag.StudyInstanceUID]);
    const negotiated = await finding(images, { extended: relational(STUDY_ROOT.find) });
    assert.ok(negotiated.length > 4);
    assert.equal(negotiated.at(-1)!.status, 0);
    assert.equal((await finding(images, { callingAeTitle: 'LENIENT' })).length, negotiated.length);
  });

  test('C-FIND in Implicit VR Little Endian; an identifier that is none: C000; none at all: A900', async () => {
    const implicit = { contexts: [{ abstractSyntax: STUDY_ROOT.find, transferSyntaxes: [IMPLICIT] }] };
    const request = identifier(
      { '00080052': { vr: 'CS', Value: ['STUDY'] }, '0020000D': { vr: 'UI', Value: ['1.5'] } },
      IMPLICIT,
    );
    const responses = await finding(request, implicit);
    assert.equal(responses.length, 2);
    const row = new DataSet({ buffer: responses[0]!.data!, transferSyntaxUid: IMPLICIT });
    assert.equal(row.string(Tag.StudyInstanceUID), '1.5');
    assert.equal(row.string(Tag.RetrieveAETitle), 'GANTRY');
    assert.equal(row.string(Tag.InstanceAvailability), 'ONLINE');
    assert.equal((await finding(Buffer.from('0800520043530700', 'hex'))).at(-1)!.status, 0xc000);
    const association = await archive.connect();
    const context = association.findContext(STUDY_ROOT.find)!;
    const command = { commandField: COMMAND.C_FIND_RQ, affectedSopClassUid: STUDY_ROOT.find };
    assert.equal((await association.request(context.id, command)).command.status, 0xa900);
    await association.release();
  });

  test('C-CANCEL of a C-FIND: FE00, and the association goes on', async () => {
    const association = await archive.connect({
      contexts: [{ abstractSyntax: STUDY_ROOT.find, transferSyntaxes: [EXPLICIT] }],
      extended: relational(STUDY_ROOT.find),
    });
    // The cancel is on its way before the first row is asked for: its place in the queue is before the index's answer.
    const command = {
      commandField: COMMAND.C_FIND_RQ,
      affectedSopClassUid: STUDY_ROOT.find,
      priority: 0,
      messageId: 5,
    };
    const request = association.request(1, command, query('IMAGE', { sop: '' }));
    await association.cancel(1, 5);
    assert.equal((await request).command.status, 0xfe00);
    assert.equal((await found(association, query('STUDY', { study: '1.5' }))).length, 2);
    await association.release();
  });

  test('dimse.findRowsMax: the final status is A700, so that nobody takes the list for a whole one', async () => {
    archive.context.change({ 'dimse.findRowsMax': 2 });
    const responses = await finding(query('IMAGE', { study: '1.2.3', series: '1.2.3.1', sop: '' }));
    assert.deepEqual(
      responses.map(({ status }) => status),
      [0xff00, 0xff00, 0xa700],
    );
    archive.context.change({ 'dimse.findRowsMax': 100_000 });
  });

  test('dimse.identifierMax: A700 to a query, A701 to a retrieval, and the association lives', async () => {
    archive.context.change({ 'dimse.identifierMax': 64 });
    const long = query('STUDY', { study: Array.from({ length: 50 }, (_, n) => `1.2.3.${n}`).join('\\') });
    const association = await archive.connect();
    assert.equal((await found(association, long)).at(-1)!.status, 0xa700);
    assert.equal((await echo(association)).status, 0);
    await association.release();
    const { responses } = await got(archive, [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }], long);
    assert.equal(responses.at(-1)!.status, 0xa701);
    archive.context.change({ 'dimse.identifierMax': 4_194_304 });
  });

  test('dimse.associationsMax and dimse.associationsPerPeerMax: 2/3/2, and room again once one is released', async () => {
    for (const limit of ['dimse.associationsMax', 'dimse.associationsPerPeerMax']) {
      archive.context.change({ [limit]: 1 });
      const first = await archive.connect();
      await assert.rejects(archive.connect(), rejected('2/3/2'));
      await first.release();
      // Our side knows of the release when its socket is closed.
      const again = await until(() => archive.connect().catch(() => undefined));
      await again.release();
      archive.context.change({ 'dimse.associationsMax': 512, 'dimse.associationsPerPeerMax': 64 });
    }
  });

  test('limits and peers of a reload hold for the associations that follow; those that are open stay', async () => {
    const open = await archive.connect();
    archive.context.change({
      peers: [
        { aeTitle: 'LENIENT', relationalLenient: true },
        { aeTitle: 'MODALITY', services: ['echo'], pduLengthMax: 4096 },
      ],
      'dimse.pduLengthMax': 16_384,
    });
    const next = await archive.connect();
    assert.deepEqual(
      [...next.contexts.values()].map((context) => context.abstractSyntax),
      [VERIFICATION],
    );
    assert.equal(next.ac.user.maxPduLength, 4096);
    const other = await archive.connect({ callingAeTitle: 'OTHER' });
    assert.equal(other.ac.user.maxPduLength, 16_384);
    assert.equal((await found(open, query('STUDY', { study: '1.5' }))).length, 2);
    for (const association of [open, next, other]) await association.release();
    archive.context.change({ peers: [{ aeTitle: 'LENIENT', relationalLenient: true }], 'dimse.pduLengthMax': 131_072 });
  });

  test('an instance that is refused leaves the association usable, and is in the log once', async () => {
    const lines: Record<string, unknown>[] = [];
    const { default: pino } = await import('pino');
    const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    const loud = await house({ log });
    const responses = await offer(loud, [instance(1), instance(2, { study: '' }), instance(3)]);
    assert.deepEqual(
      responses.map(({ status }) => status),
      [0, 0xa900, 0],
    );
    assert.deepEqual(responses[1]!.command.offendingElement, [Tag.StudyInstanceUID]);
    const closed = await until(() => lines.find(({ msg }) => msg === 'association closed'));
    const opened = lines.find(({ msg }) => msg === 'association opened')!;
    const refusals = lines.filter(({ msg }) => /refused/.test(String(msg)));
    assert.equal(refusals.length, 1);
    assert.equal(refusals[0]!.requestId, opened.associationId);
    assert.equal(closed.associationId, opened.associationId);
    assert.deepEqual([closed.instances, closed.refused, closed.ended], [2, 1, 'released']);
    assert.doesNotMatch(JSON.stringify(lines), /TEST\^PATIENT|"P1"/);
    const [transfer] = loud.context.audit.recorded.filter(({ event }) => event.useCase === 'dimse.c-store');
    assert.deepEqual(transfer!.event.detail, { instances: 2, refused: 1 });
    assert.deepEqual(transfer!.event.objects, [{ type: 'study', id: '1.2.3' }]);
  });
});

describe('when what the door needs breaks', () => {
  let context: TestContext;
  let authorize: () => Promise<{ allowed: boolean; reason: string }>;
  /** Serves what the door asks for, badly. */
  const rest: Module = {
    name: 'rest',
    settings: {},
    async start(context) {
      context.serve(AuthService, {
        authenticate: async (_, { evidence }) => {
          if (evidence?.$case !== 'ae') throw new GantryError('unauthenticated', 'nobody');
          if (evidence.value.callingAeTitle === 'NOBODY') throw new GantryError('unauthenticated', 'nobody');
          return { principal: { id: evidence.value.callingAeTitle, kind: 'ae', roles: [], tenant: 'main' } };
        },
        authorize: () => authorize(),
      });
      return { stop: async () => {} };
    },
  };
  let door: TestHouse;
  before(async () => {
    context = await createTestContext({
      modules: [rest, dimseModule],
      settings: { 'dimse.host': '127.0.0.1', 'dimse.port': 0 },
    });
    const { port } = await context.client(DimseService).listPeers(context.call(), {});
    const { connect } = await import('#dimse/requestor.ts');
    door = {
      context,
      port,
      connect: (more) =>
        connect({
          host: '127.0.0.1',
          port,
          callingAeTitle: 'MODALITY',
          calledAeTitle: 'GANTRY',
          contexts: [VERIFICATION, STUDY_ROOT.find].map((abstractSyntax) => ({
            abstractSyntax,
            transferSyntaxes: [EXPLICIT],
          })),
          ...more,
        }),
    };
  });
  after(() => context.stop());

  test('not allowed: 0124; auth is away: A700; neither costs the association', async () => {
    const association = await door.connect();
    authorize = async () => ({ allowed: false, reason: '' });
    assert.equal((await echo(association)).status, 0x0124);
    authorize = async () => {
      throw new GantryError('unavailable', 'away');
    };
    assert.equal((await echo(association)).status, 0xa700);
    authorize = async () => ({ allowed: true, reason: '' });
    assert.equal((await echo(association)).status, 0);
    await association.release();
  });

  test('who cannot be told is not served: the association is aborted', async () => {
    const association = await door.connect({ callingAeTitle: 'NOBODY' });
    assert.equal((await association.closed).kind, 'aborted-by-peer');
  });

  test('an operation that fails is answered; the index is away: A700', async () => {
    authorize = async () => ({ allowed: true, reason: '' });
    const association = await door.connect();
    const responses = await found(association, query('STUDY', { study: '1' }));
    assert.ok([0xa700, 0xc000].includes(responses.at(-1)!.status));
    assert.equal((await echo(association)).status, 0);
    await association.release();
  });

  test('an operation that throws ends its association, and no place stays taken', async () => {
    const association = await door.connect();
    authorize = async () => ({ allowed: true, reason: '' });
    const { record } = context.audit;
    // C-ECHO answers and then audits: what it throws there nobody foresaw.
    (context.audit as { record: unknown }).record = () => {
      throw new Error('a defect');
    };
    try {
      await echo(association).catch(() => undefined); // the answer may or may not get out first
      assert.equal((await association.closed).kind, 'aborted-by-peer');
    } finally {
      (context.audit as { record: unknown }).record = record;
    }
    const { associations } = await until(async () => {
      const listed = await context.client(DimseService).listAssociations(context.call(), {});
      return listed.associations.length === 0 && listed;
    });
    assert.equal(associations.length, 0);
  });
});

describe('the table of services', () => {
  test('every row is one use case; every class belongs to the services that serve it', () => {
    assert.equal(new Set(SERVICES.map(({ useCase }) => useCase)).size, SERVICES.length);
    for (const { find, move, get } of MODELS) {
      assert.equal(serviceFor(find, COMMAND.C_FIND_RQ)?.useCase, 'dimse.c-find');
      assert.equal(serviceFor(move, COMMAND.C_MOVE_RQ)?.useCase, 'dimse.c-move');
      assert.equal(serviceFor(get, COMMAND.C_GET_RQ)?.useCase, 'dimse.c-get');
      assert.equal(serviceFor(find, COMMAND.C_MOVE_RQ), undefined);
      assert.equal(servicesOf(find).length, 1);
    }
    assert.equal(serviceFor(CT, COMMAND.C_STORE_RQ)?.useCase, 'dimse.c-store');
    assert.equal(serviceFor(CT, COMMAND.C_ECHO_RQ), undefined);
    assert.equal(serviceFor('1.2.826.0.1.99', COMMAND.C_STORE_RQ)?.useCase, 'dimse.c-store');
    assert.deepEqual(servicesOf('1.2.840.10008.5.1.4.31'), []);
  });
});
