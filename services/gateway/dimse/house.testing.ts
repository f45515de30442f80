/** For tests: the DIMSE door in front of the real ingest, storage and index, and peers that listen. */
import { after } from 'node:test';
import type { JsonDataSet } from '#dicom/json.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { listen } from '#dimse/acceptor.ts';
import { COMMAND } from '#dimse/command.ts';
import { negotiate } from '#dimse/negotiate.ts';
import { connect } from '#dimse/requestor.ts';
import { get, move, type Response, store } from '#dimse/scu.ts';
import type { Acceptor, Association, ConnectOptions, Incoming, ListenOptions } from '#dimse/types.ts';
import { createTestContext, type TestContext, type TestOptions } from '#platform/testing.ts';
import { DimseService } from '#proto/gateway/v1/gateway.ts';
import { loadRole } from '../../roles.ts';

export const EXPLICIT = '1.2.840.10008.1.2.1';
export const IMPLICIT = '1.2.840.10008.1.2';
export const JPEG = '1.2.840.10008.1.2.4.70';
export const CT = '1.2.840.10008.5.1.4.1.1.2';
export const MR = '1.2.840.10008.5.1.4.1.1.4';
export const VERIFICATION = '1.2.840.10008.1.1';
export const COMMITMENT = '1.2.840.10008.1.20.1';
export const COMMITMENT_INSTANCE = '1.2.840.10008.1.20.1.1';
export const STUDY_ROOT = {
  find: '1.2.840.10008.5.1.4.1.2.2.1',
  move: '1.2.840.10008.5.1.4.1.2.2.2',
  get: '1.2.840.10008.5.1.4.1.2.2.3',
};
export const PATIENT_ROOT = {
  find: '1.2.840.10008.5.1.4.1.2.1.1',
  move: '1.2.840.10008.5.1.4.1.2.1.2',
  get: '1.2.840.10008.5.1.4.1.2.1.3',
};

const closers: (() => Promise<unknown>)[] = [];
// A test that fails half-way must not keep the process alive.
after(async () => {
  for (const close of closers.reverse()) await close();
});

export interface TestHouse {
  context: TestContext;
  port: number;
  connect(options?: Partial<ConnectOptions>): Promise<Association>;
}

/** Everything but HTTP, in this process. */
export async function house(options: TestOptions = {}): Promise<TestHouse> {
  const { modules } = await loadRole('all');
  const context = await createTestContext({
    ...options,
    modules: modules.filter(({ name }) => !['gateway/http', 'storage/keeper'].includes(name)),
    settings: { 'dimse.host': '127.0.0.1', 'dimse.port': 0, ...options.settings },
  });
  closers.push(() => context.stop());
  const { port } = await context.client(DimseService).listPeers(context.call(), {});
  return {
    context,
    port,
    connect: (more = {}) =>
      connect({
        host: '127.0.0.1',
        port,
        callingAeTitle: 'MODALITY',
        calledAeTitle: 'GANTRY',
        contexts: [VERIFICATION, CT, MR, STUDY_ROOT.find, STUDY_ROOT.move, COMMITMENT].map((abstractSyntax) => ({
          abstractSyntax,
          transferSyntaxes: [EXPLICIT],
        })),
        ...more,
      }),
  };
}

export interface Sent {
  study: string;
  series: string;
  sop: string;
  sopClass: string;
  transferSyntax: string;
  patientId: string;
  pixelBytes: number;
  /** Changes the bytes, not the identity. */
  mark: number;
}
export const instance = (n: number, more: Partial<Sent> = {}): Sent => ({
  study: '1.2.3',
  series: '1.2.3.1',
  sop: `1.2.3.1.${n}`,
  sopClass: CT,
  transferSyntax: EXPLICIT,
  patientId: 'P1',
  pixelBytes: 1000,
  mark: n,
  ...more,
});

export const bytesOf = (sent: Sent): Buffer =>
  encodeDataSet(
    {
      '00080016': { vr: 'UI', Value: [sent.sopClass] },
      '00080018': { vr: 'UI', Value: [sent.sop] },
      '00080060': { vr: 'CS', Value: ['CT'] },
      '00100010': { vr: 'PN', Value: [{ Alphabetic: 'TEST^PATIENT' }] },
      '00100020': { vr: 'LO', Value: [sent.patientId] },
      '0020000D': { vr: 'UI', Value: [sent.study] },
      '0020000E': { vr: 'UI', Value: [sent.series] },
      '7FE00010': { vr: 'OW', InlineBinary: Buffer.alloc(sent.pixelBytes, sent.mark + 1).toString('base64') },
    },
    { transferSyntaxUid: sent.transferSyntax },
  );

/** Stores over an association of its own; each must be kept. */
export async function keep(to: TestHouse, ...instances: Sent[]): Promise<void> {
  for (const { status } of await offer(to, instances))
    if (status !== 0) throw new Error(`C-STORE answered ${status.toString(16)}`);
}

export async function offer(to: TestHouse, instances: readonly Sent[]): Promise<Response[]> {
  const contexts = [...new Map(instances.map((one) => [`${one.sopClass}${one.transferSyntax}`, one])).values()];
  const association = await to.connect({
    contexts: contexts.map((one) => ({ abstractSyntax: one.sopClass, transferSyntaxes: [one.transferSyntax] })),
  });
  const responses: Response[] = [];
  for (const one of instances) {
    const contextId = association.findContext(one.sopClass, one.transferSyntax)!.id;
    responses.push(
      await store(association, { contextId, sopClassUid: one.sopClass, sopInstanceUid: one.sop, data: bytesOf(one) }),
    );
  }
  await association.release();
  return responses;
}

export const identifier = (dataSet: JsonDataSet, transferSyntaxUid = EXPLICIT): Buffer =>
  encodeDataSet(dataSet, { transferSyntaxUid });

/** An identifier of a query or retrieval: level, then UIDs by level. */
export const query = (level: string, keys: { patient?: string; study?: string; series?: string; sop?: string } = {}) =>
  identifier({
    ...(level === '' ? {} : { '00080052': { vr: 'CS', Value: [level] } }),
    ...(keys.patient === undefined ? {} : { '00100020': { vr: 'LO', Value: [keys.patient] } }),
    ...(keys.study === undefined ? {} : { '0020000D': { vr: 'UI', Value: keys.study.split('\\') } }),
    ...(keys.series === undefined ? {} : { '0020000E': { vr: 'UI', Value: keys.series.split('\\') } }),
    ...(keys.sop === undefined ? {} : { '00080018': { vr: 'UI', Value: keys.sop.split('\\') } }),
  } as JsonDataSet);

export interface Peer {
  port: number;
  acceptor: Acceptor;
  /** What came by C-STORE, in order. */
  received: { command: Incoming['command']; transferSyntax: string; data: Buffer }[];
  /** Associations that were opened to it. */
  associations: Association[];
}

/** Somebody who listens: takes what `accepts` says, answers C-STORE with `answer`. */
export async function peer(
  options: Partial<ListenOptions> & {
    accepts?: (abstractSyntax: string, transferSyntax: string) => boolean;
    answer?: (incoming: Incoming, association: Association) => number | Promise<number>;
  } = {},
): Promise<Peer> {
  const { accepts = () => true, answer = () => 0, ...rest } = options;
  const received: Peer['received'] = [];
  const associations: Association[] = [];
  const acceptor = await listen({
    host: '127.0.0.1',
    port: 0,
    onRequest: (rq) => negotiate(rq, { abstractSyntax: () => true, transferSyntax: accepts, role: (role) => role }),
    onAssociation: async (association) => {
      associations.push(association);
      for await (const incoming of association.messages()) {
        const data = await incoming.whole(2 ** 30);
        const status = await answer(incoming, association);
        if (status === 0 || incoming.command.commandField !== COMMAND.C_STORE_RQ)
          received.push({ command: incoming.command, transferSyntax: incoming.transferSyntax, data });
        await association.respond(incoming, { status });
      }
    },
    ...rest,
  });
  closers.push(() => acceptor.close(0));
  return { acceptor, port: acceptor.port, received, associations };
}

export async function moved(
  association: Association,
  destination: string,
  request: Buffer,
  sopClass = STUDY_ROOT.move,
): Promise<Response[]> {
  const responses: Response[] = [];
  for await (const response of move(association, sopClass, destination, request)) responses.push(response);
  return responses;
}

/** C-GET on an association of its own, with role selection for these contexts. */
export async function got(
  from: TestHouse,
  contexts: { abstractSyntax: string; transferSyntaxes: string[] }[],
  request: Buffer,
  answer: (incoming: Incoming) => number = () => 0,
  callingAeTitle = 'MODALITY',
) {
  const received: Peer['received'] = [];
  const association = await from.connect({
    callingAeTitle,
    contexts: [{ abstractSyntax: STUDY_ROOT.get, transferSyntaxes: [EXPLICIT] }, ...contexts],
    roles: [...new Set(contexts.map((one) => one.abstractSyntax))].map((sopClassUid) => ({
      sopClassUid,
      scu: false,
      scp: true,
    })),
  });
  const responses: Response[] = [];
  for await (const response of get(association, STUDY_ROOT.get, request, async (incoming) => {
    const data = await incoming.whole(2 ** 30);
    received.push({ command: incoming.command, transferSyntax: incoming.transferSyntax, data });
    return answer(incoming);
  }))
    responses.push(response);
  await association.release();
  return { responses, received };
}

/** Waits for what another process or thread does, without guessing how long it takes. */
export async function until<T>(look: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen as T;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
