import type { Principal } from '#proto/auth/v1/auth.ts';
import type { TraceContext } from './trace.ts';

/** What travels with every request, in one process and over gRPC or HTTP alike. */
export interface Call {
  readonly tenant: string;
  readonly principal: Principal;
  /** Ties the log lines and audit records of one association or request together. */
  readonly requestId: string;
  /** Aborted when the caller gave up or the deadline passed. */
  readonly signal: AbortSignal;
  /** Epoch milliseconds; absent: the client's default applies. */
  readonly deadline?: number;
  /** The span that this call is made in; absent: nobody traces it. */
  readonly trace?: TraceContext;
}

export const SYSTEM: Principal = { id: 'system', kind: 'system', roles: ['system'], tenant: 'main' };

/** A call that no person made: folding, compaction, jobs. */
export function systemCall(
  tenant: string,
  requestId: string,
  signal: AbortSignal = new AbortController().signal,
): Call {
  return { tenant, principal: { ...SYSTEM, tenant }, requestId, signal };
}
