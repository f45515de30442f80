import { canReencode } from '#dicom/reencode.ts';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { storeKind } from '#dimse/status.ts';
import type { AcceptedContext, Association } from '#dimse/types.ts';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Settings } from '#platform/module.ts';
import type { Peer } from '#platform/peers.ts';
import { giveBack } from '#platform/slabs.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../read.ts';
import {
  dataSetBytes,
  EXPLICIT_VR_LITTLE_ENDIAN,
  IMPLICIT_VR_LITTLE_ENDIAN,
  type Representation,
  represent,
} from '../representation.ts';
import { limitsFrom } from './settings.ts';

const CONTEXTS_MAX = 128; // PS3.8 §9.3.2.2: odd ids from 1 to 255

export interface ProposedContext {
  abstractSyntax: string;
  transferSyntaxes: string[];
}

const keyOf = ({ abstractSyntax, transferSyntaxes }: ProposedContext): string =>
  `${abstractSyntax}|${transferSyntaxes.join('|')}`;

/**
 * The contexts that a list of instances needs. Each stored syntax is proposed alone, so that the destination cannot choose another one
 * for it; native ones may also go as Explicit or Implicit VR Little Endian. Where the peer's syntaxes are configured (`preferred`),
 * no other is proposed: some take what they cannot show.
 */
export function contextsFor(instances: readonly Located[], preferred: readonly string[]): ProposedContext[] {
  const contexts: ProposedContext[] = [];
  const seen = new Set<string>();
  const propose = (abstractSyntax: string, transferSyntaxes: string[]) => {
    const context = { abstractSyntax, transferSyntaxes };
    if (!seen.has(keyOf(context))) contexts.push(context);
    seen.add(keyOf(context));
  };
  for (const { sopClassUid, transferSyntaxUid } of instances) {
    if (preferred.length === 0 || preferred.includes(transferSyntaxUid)) propose(sopClassUid, [transferSyntaxUid]);
    if (canReencode(transferSyntaxUid, EXPLICIT_VR_LITTLE_ENDIAN)) {
      const native = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN];
      const wanted = preferred.filter((uid) => native.includes(uid));
      propose(sopClassUid, wanted.length > 0 ? wanted : native);
    }
  }
  return contexts;
}

/** An instance, and all that it is kept as (other transfer syntaxes are renditions), most wanted first. */
export interface Retrievable {
  studyInstanceUid: string;
  sopInstanceUid: string;
  kept: Located[];
}

/** Runs of instances whose contexts fit one association: a study of many classes and syntaxes takes several. */
export function* batches(instances: readonly Retrievable[], preferred: readonly string[]): Generator<Retrievable[]> {
  let batch: Retrievable[] = [];
  const contexts = new Set<string>();
  for (const instance of instances) {
    const needs = contextsFor(instance.kept, preferred).map(keyOf);
    const more = needs.filter((key) => !contexts.has(key)).length;
    if (batch.length > 0 && contexts.size + more > CONTEXTS_MAX) {
      yield batch;
      batch = [];
      contexts.clear();
    }
    for (const key of needs) contexts.add(key);
    batch.push(instance);
  }
  if (batch.length > 0) yield batch;
}

/** What of an instance goes to the other side, on which context, and how. */
export interface Chosen {
  located: Located;
  context: AcceptedContext;
  as: Representation;
}

/** As stored where that syntax was accepted, else native as Explicit or Implicit VR LE; else the next that it is kept as. */
export function chooseContext(contexts: Iterable<AcceptedContext>, instance: Retrievable): Chosen | undefined {
  const all = [...contexts];
  for (const located of instance.kept) {
    const fit = all.filter((context) => context.abstractSyntax === located.sopClassUid);
    for (const syntax of [located.transferSyntaxUid, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]) {
      const context = fit.find((one) => one.transferSyntax === syntax);
      const as = represent(located, syntax);
      if (context !== undefined && as !== undefined) return { located, context, as };
    }
  }
  return undefined;
}

export interface SubOperation {
  outcome: 'completed' | 'warning' | 'failed';
  /** Why it failed, for the log: no patient data. */
  reason?: string;
}

/** One C-STORE sub-operation over an open association (PS3.4 §C.4.2.2.2, §C.4.3.2.2). */
export async function sendOne(
  association: Association,
  reader: Reader,
  call: Call,
  chosen: Chosen | undefined,
  options: { moveOriginatorAeTitle?: string; moveOriginatorMessageId?: number; responseTimeoutMs?: number },
): Promise<SubOperation> {
  if (chosen === undefined) {
    return {
      outcome: 'failed',
      reason: 'its transfer syntax was not accepted, and this release does not transcode',
    };
  }
  const { located } = chosen;
  // The first bytes are read before the command goes out: an instance that cannot be read costs its own sub-operation, not the association.
  const bytes = dataSetBytes(reader, call, located, chosen.as)[Symbol.asyncIterator]();
  let first: IteratorResult<Buffer>;
  try {
    first = await bytes.next();
  } catch (error) {
    return {
      outcome: 'failed',
      reason: error instanceof GantryError ? `${error.code}: ${error.message}` : 'its bytes cannot be read',
    };
  }
  const lent = (async function* () {
    if (first.done !== true) yield first.value;
    yield* { [Symbol.asyncIterator]: () => bytes };
  })();
  const data = Object.assign(lent, { taken: giveBack });
  const response = await store(
    association,
    {
      contextId: chosen.context.id,
      sopClassUid: located.sopClassUid,
      sopInstanceUid: located.sopInstanceUid,
      data,
      moveOriginatorAeTitle: options.moveOriginatorAeTitle,
      moveOriginatorMessageId: options.moveOriginatorMessageId,
    },
    { responseTimeoutMs: options.responseTimeoutMs },
  );
  const kind = storeKind(response.status);
  const status = response.status.toString(16).padStart(4, '0');
  return kind === 'failure'
    ? { outcome: 'failed', reason: `the destination answered ${status}` }
    : { outcome: kind === 'warning' ? 'warning' : 'completed' };
}

/** An association to a configured peer, under the limits of the door and those of the peer. */
export function dial(
  settings: Settings,
  peer: Pick<Peer, 'host' | 'port' | 'aeTitle' | 'pduLengthMax' | 'connectTimeoutMs' | 'responseTimeoutMs'>,
  contexts: ProposedContext[],
  signal?: AbortSignal,
  roles?: { sopClassUid: string; scu: boolean; scp: boolean }[],
): Promise<Association> {
  return connect({
    host: peer.host,
    port: peer.port,
    callingAeTitle: settings.string('dimse.aeTitle'),
    calledAeTitle: peer.aeTitle,
    contexts,
    roles,
    signal,
    limits: {
      ...limitsFrom(settings),
      ...(peer.pduLengthMax > 0 ? { pduLengthMax: peer.pduLengthMax } : {}),
      acceptTimeoutMs: peer.connectTimeoutMs,
      responseTimeoutMs: peer.responseTimeoutMs,
    },
  });
}
