// The DIMSE services as a modality or workstation uses them, over this repository's own requestor; oracles.ts asks others.
import assert from 'node:assert/strict';
import { DataSet } from '#dicom/dataset.ts';
import { type JsonDataSet, toJson } from '#dicom/json.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { listen } from '#dimse/acceptor.ts';
import { COMMAND } from '#dimse/command.ts';
import { negotiate } from '#dimse/negotiate.ts';
import { connect } from '#dimse/requestor.ts';
import { find, get, move, nAction, type Response, store } from '#dimse/scu.ts';
import type { Acceptor, Association, ConnectOptions, Incoming } from '#dimse/types.ts';
import { type Deployment, TITLES } from './deployment.ts';
import { CT, EXPLICIT, MR, type Sent } from './material.ts';

export const VERIFICATION = '1.2.840.10008.1.1';
const COMMITMENT = '1.2.840.10008.1.20.1';
const COMMITMENT_INSTANCE = '1.2.840.10008.1.20.1.1';
export const PATIENT_ROOT_FIND = '1.2.840.10008.5.1.4.1.2.1.1';
export const STUDY_ROOT_FIND = '1.2.840.10008.5.1.4.1.2.2.1';
export const STUDY_ROOT_MOVE = '1.2.840.10008.5.1.4.1.2.2.2';
const STUDY_ROOT_GET = '1.2.840.10008.5.1.4.1.2.2.3';
const DATA_SET_MAX = 2 ** 30;

const explicit = (abstractSyntax: string) => ({ abstractSyntax, transferSyntaxes: [EXPLICIT] });
const CONTEXTS = [VERIFICATION, CT, MR, PATIENT_ROOT_FIND, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, COMMITMENT].map(explicit);

export type Dimse = ReturnType<typeof dimseOf>;
export type Keys = Record<string, { vr: string; Value?: (string | number)[] }>;

/** What came by C-STORE: a retrieved instance. */
export interface Taken {
  sop: string;
  transferSyntax: string;
  dataSet: Buffer;
  command: Incoming['command'];
}

export interface CommitmentReport {
  eventTypeId: number;
  transactionUid: string;
  held: string[];
  failed: [sop: string, reason: number][];
}
export type Reference = [sopClass: string, sop: string];

export const uids = (level: 'STUDY' | 'SERIES' | 'IMAGE', sent: Pick<Sent, 'study' | 'series' | 'sop'>): Keys => ({
  '00080052': { vr: 'CS', Value: [level] },
  '0020000D': { vr: 'UI', Value: [sent.study] },
  ...(level === 'STUDY' ? {} : { '0020000E': { vr: 'UI', Value: [sent.series] } }),
  ...(level === 'IMAGE' ? { '00080018': { vr: 'UI', Value: [sent.sop] } } : {}),
});

const encode = (keys: JsonDataSet): Buffer => encodeDataSet(keys, { transferSyntaxUid: EXPLICIT });

export function dimseOf(deployment: Deployment) {
  const { host, port, aeTitle } = deployment.dimse;
  const open = (more: Partial<ConnectOptions> = {}): Promise<Association> =>
    connect({ host, port, callingAeTitle: TITLES.sender, calledAeTitle: aeTitle, contexts: CONTEXTS, ...more });

  async function within<T>(more: Partial<ConnectOptions>, work: (association: Association) => Promise<T>): Promise<T> {
    const association = await open(more);
    try {
      const result = await work(association);
      await association.release();
      return result;
    } finally {
      association.abort(); // harmless when it was released
    }
  }

  async function storeOn(association: Association, sent: Sent): Promise<number> {
    const context = association.findContext(sent.sopClass, sent.transferSyntax);
    assert.ok(context, `no context for ${sent.sopClass} in ${sent.transferSyntax}`);
    const { sopClass: sopClassUid, sop: sopInstanceUid, dataSet: data } = sent;
    return (await store(association, { contextId: context.id, sopClassUid, sopInstanceUid, data })).status;
  }

  async function findOn(association: Association, keys: Keys, sopClass = STUDY_ROOT_FIND): Promise<JsonDataSet[]> {
    const rows: JsonDataSet[] = [];
    let final = -1;
    for await (const { status, data, transferSyntax } of find(association, sopClass, encode(keys as JsonDataSet))) {
      final = status;
      if (data !== undefined) rows.push(toJson(new DataSet({ buffer: data, transferSyntaxUid: transferSyntax })));
    }
    assert.equal(final, 0, 'C-FIND did not end with success');
    return rows;
  }

  return {
    open,
    within,
    storeOn,
    findOn,

    /** Over one association; every answer must be success. */
    async store(instances: readonly Sent[], callingAeTitle: string = TITLES.sender): Promise<void> {
      const contexts = [...new Map(instances.map((one) => [one.sopClass + one.transferSyntax, one])).values()];
      await within(
        {
          callingAeTitle,
          contexts: contexts.map((one) => ({
            abstractSyntax: one.sopClass,
            transferSyntaxes: [one.transferSyntax],
          })),
        },
        async (association) => {
          for (const one of instances) assert.equal(await storeOn(association, one), 0, one.sop);
        },
      );
    },

    find: (keys: Keys, sopClass = STUDY_ROOT_FIND, callingAeTitle: string = TITLES.sender) =>
      within({ callingAeTitle }, (association) => findOn(association, keys, sopClass)),

    /** To the receiver, or whom `destination` names. Every response, the final one last. */
    move: (keys: Keys, destination = deployment.receiver.aeTitle) =>
      within({}, async (association) => {
        const responses: Response[] = [];
        for await (const one of move(association, STUDY_ROOT_MOVE, destination, encode(keys as JsonDataSet)))
          responses.push(one);
        return responses;
      }),

    get(keys: Keys, like: readonly Sent[]): Promise<{ responses: Response[]; taken: Taken[] }> {
      const contexts = [...new Map(like.map((one) => [one.sopClass + one.transferSyntax, one])).values()];
      const options = {
        contexts: [
          explicit(STUDY_ROOT_GET),
          ...contexts.map((one) => ({ abstractSyntax: one.sopClass, transferSyntaxes: [one.transferSyntax] })),
        ],
        roles: [...new Set(like.map((one) => one.sopClass))].map((sopClassUid) => ({
          sopClassUid,
          scu: false,
          scp: true,
        })),
      };
      return within(options, async (association) => {
        const [responses, taken]: [Response[], Taken[]] = [[], []];
        for await (const one of get(association, STUDY_ROOT_GET, encode(keys as JsonDataSet), async (incoming) => {
          taken.push(await take(incoming));
          return 0;
        }))
          responses.push(one);
        return { responses, taken };
      });
    },

    /** N-ACTION: the status of its answer. The report comes to the receiver, or to `reports` of this association. */
    async requestCommitment(
      association: Association,
      transactionUid: string,
      references: readonly Reference[],
    ): Promise<number> {
      const data = encode({
        '00081195': { vr: 'UI', Value: [transactionUid] },
        '00081199': {
          vr: 'SQ',
          Value: references.map(([sopClass, sop]) => ({
            '00081150': { vr: 'UI', Value: [sopClass] },
            '00081155': { vr: 'UI', Value: [sop] },
          })),
        },
      });
      const request = { sopClassUid: COMMITMENT, sopInstanceUid: COMMITMENT_INSTANCE, actionTypeId: 1, data };
      return (await nAction(association, request)).status;
    },
  };
}

async function take(incoming: Incoming): Promise<Taken> {
  const dataSet = await incoming.whole(DATA_SET_MAX);
  const { command, transferSyntax } = incoming;
  return { sop: command.affectedSopInstanceUid!, transferSyntax, dataSet, command };
}

export async function reportOf(incoming: Incoming): Promise<CommitmentReport> {
  const buffer = await incoming.whole(DATA_SET_MAX);
  const dataSet = new DataSet({ buffer, transferSyntaxUid: incoming.transferSyntax });
  const sop = (item: DataSet) => item.string(0x00081155) ?? '';
  return {
    eventTypeId: incoming.command.eventTypeId!,
    transactionUid: dataSet.string(0x00081195) ?? '',
    held: dataSet.items(0x00081199).map(sop),
    failed: dataSet.items(0x00081198).map((item) => [sop(item), item.number(0x00081197) ?? 0]),
  };
}

/** Somebody whom the deployment can call: keeps what comes by C-STORE, and commitment reports. */
export interface Receiver {
  readonly taken: Taken[];
  readonly reports: CommitmentReport[];
  /** Its port is lent to somebody else's program meanwhile. */
  lend<T>(work: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export async function receive({ receiver }: Deployment): Promise<Receiver> {
  const taken: Taken[] = [];
  const reports: CommitmentReport[] = [];
  const answer = (): Promise<Acceptor> =>
    listen({
      host: receiver.host === '127.0.0.1' ? '127.0.0.1' : '0.0.0.0',
      port: receiver.port,
      onRequest: (rq) =>
        negotiate(rq, { abstractSyntax: () => true, transferSyntax: () => true, role: (role) => role }),
      onAssociation: async (association) => {
        for await (const incoming of association.messages()) {
          const { commandField } = incoming.command;
          if (commandField === COMMAND.C_STORE_RQ) taken.push(await take(incoming));
          if (commandField === COMMAND.N_EVENT_REPORT_RQ) reports.push(await reportOf(incoming));
          await association.respond(incoming, { status: 0 });
        }
      },
    });
  let acceptor = await answer();
  return {
    taken,
    reports,
    async lend(work) {
      await acceptor.close(0);
      try {
        return await work();
      } finally {
        acceptor = await answer();
      }
    },
    close: () => acceptor.close(0),
  };
}
