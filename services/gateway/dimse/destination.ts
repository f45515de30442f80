import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { storeKind } from '#dimse/status.ts';
import type { AcceptedContext, Association } from '#dimse/types.ts';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Peer } from '#platform/peers.ts';
import type { Located } from '#proto/index/v1/index.ts';
import type { Reader } from '../read.ts';
import {
  dataSetBytes,
  EXPLICIT_VR_LITTLE_ENDIAN,
  IMPLICIT_VR_LITTLE_ENDIAN,
  isEncapsulated,
  type Representation,
} from '../representation.ts';

const CONTEXTS_MAX = 128; // PS3.8 §9.3.2.2: odd ids from 1 to 255

export interface ProposedContext {
  abstractSyntax: string;
  transferSyntaxes: string[];
}

/**
 * The contexts that a list of instances needs. Each stored syntax is proposed alone, so that the destination cannot choose another one
 * for it; native ones may also go as Explicit or Implicit VR Little Endian.
 */
export function contextsFor(instances: readonly Located[], preferred: readonly string[]): ProposedContext[] {
  const contexts: ProposedContext[] = [];
  const seen = new Set<string>();
  const propose = (abstractSyntax: string, transferSyntaxes: string[]) => {
    const key = `${abstractSyntax}|${transferSyntaxes.join('|')}`;
    if (!seen.has(key)) contexts.push({ abstractSyntax, transferSyntaxes });
    seen.add(key);
  };
  for (const { sopClassUid, transferSyntaxUid } of instances) {
    propose(sopClassUid, [transferSyntaxUid]);
    if (!isEncapsulated(transferSyntaxUid)) {
      const native = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN];
      const wanted = preferred.filter((uid) => native.includes(uid));
      propose(sopClassUid, wanted.length > 0 ? wanted : native);
    }
  }
  return contexts;
}

/** Runs of instances whose contexts fit one association: a study of many classes and syntaxes takes several. */
export function* batches(instances: readonly Located[], preferred: readonly string[]): Generator<Located[]> {
  let batch: Located[] = [];
  const keys = new Set<string>();
  let contexts = 0;
  for (const instance of instances) {
    const key = `${instance.sopClassUid}|${instance.transferSyntaxUid}`;
    if (!keys.has(key)) {
      const needs = contextsFor([instance], preferred).length;
      if (contexts + needs > CONTEXTS_MAX) {
        yield batch;
        batch = [];
        keys.clear();
        contexts = 0;
      }
      keys.add(key);
      contexts += needs;
    }
    batch.push(instance);
  }
  if (batch.length > 0) yield batch;
}

/** The context on which an instance can go to the other side, and how: as stored, else native as Explicit or Implicit VR LE. */
export function chooseContext(
  contexts: Iterable<AcceptedContext>,
  instance: Located,
  usable: (context: AcceptedContext) => boolean,
): { context: AcceptedContext; as: Representation } | undefined {
  const fit = [...contexts].filter((context) => context.abstractSyntax === instance.sopClassUid && usable(context));
  const stored = fit.find((context) => context.transferSyntax === instance.transferSyntaxUid);
  if (stored !== undefined)
    return { context: stored, as: { transferSyntaxUid: stored.transferSyntax, asStored: true } };
  if (isEncapsulated(instance.transferSyntaxUid)) return undefined;
  for (const syntax of [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]) {
    const context = fit.find((one) => one.transferSyntax === syntax);
    if (context !== undefined) return { context, as: { transferSyntaxUid: syntax, asStored: false } };
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
  instance: Located,
  chosen: { context: AcceptedContext; as: Representation } | undefined,
  options: { moveOriginatorAeTitle?: string; moveOriginatorMessageId?: number; responseTimeoutMs?: number },
): Promise<SubOperation> {
  if (chosen === undefined) {
    return {
      outcome: 'failed',
      reason: `its transfer syntax ${instance.transferSyntaxUid} was not accepted, and this release does not transcode`,
    };
  }
  // The first bytes are read before the command goes out: an instance that cannot be read costs its own sub-operation, not the association.
  const bytes = dataSetBytes(reader, call, instance, chosen.as)[Symbol.asyncIterator]();
  let first: IteratorResult<Buffer>;
  try {
    first = await bytes.next();
  } catch (error) {
    return {
      outcome: 'failed',
      reason: error instanceof GantryError ? `${error.code}: ${error.message}` : 'its bytes cannot be read',
    };
  }
  const data = (async function* () {
    if (first.done !== true) yield first.value;
    yield* { [Symbol.asyncIterator]: () => bytes };
  })();
  const response = await store(
    association,
    {
      contextId: chosen.context.id,
      sopClassUid: instance.sopClassUid,
      sopInstanceUid: instance.sopInstanceUid,
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

/** An association to a configured peer. */
export function dial(
  peer: Pick<Peer, 'host' | 'port' | 'aeTitle' | 'connectTimeoutMs' | 'responseTimeoutMs'>,
  ourAeTitle: string,
  contexts: ProposedContext[],
  signal?: AbortSignal,
  roles?: { sopClassUid: string; scu: boolean; scp: boolean }[],
): Promise<Association> {
  return connect({
    host: peer.host,
    port: peer.port,
    callingAeTitle: ourAeTitle,
    calledAeTitle: peer.aeTitle,
    contexts,
    roles,
    signal,
    limits: { acceptTimeoutMs: peer.connectTimeoutMs, responseTimeoutMs: peer.responseTimeoutMs },
  });
}
