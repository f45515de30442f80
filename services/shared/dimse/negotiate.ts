/** Presentation contexts, roles and extended negotiation answered (PS3.8 §9.3.3, PS3.7 Annex D.3): pure. */

import type { AnsweredContext, AssociateRq, ProposedContext, RoleSelection } from './pdu.ts';
import { APPLICATION_CONTEXT } from './pdu.ts';
import { REJECT } from './reasons.ts';
import type { Decision } from './types.ts';

const IMPLICIT_LITTLE = '1.2.840.10008.1.2';
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1';
const DEFLATED = '1.2.840.10008.1.2.1.99';
const BIG_ENDIAN = '1.2.840.10008.1.2.2';

export interface NegotiationPolicy {
  /** May the requestor use this class here at all? */
  abstractSyntax(uid: string): boolean;
  /** Which syntaxes are taken for a class (all that the class allows are answered, in our order of preference). */
  transferSyntax(abstractSyntax: string, transferSyntax: string): boolean;
  /**
   * What of a proposed role we grant. Absent: SCU as proposed, SCP never. Granting SCP lets us send C-STORE-RQ to the requestor on
   * this context (C-GET, PS3.4 §C.5.3).
   */
  role?(proposed: RoleSelection): { scu: boolean; scp: boolean };
  /** The answer to a SOP Class Extended Negotiation item; undefined: none. */
  extended?(sopClassUid: string, info: Buffer): Buffer | undefined;
}

export type Accepted = Extract<Decision, { accept: true }>;

/**
 * The proposer's order, but Explicit Little Endian goes before Implicit, and Deflated and Big Endian go last: who proposes Implicit
 * first rarely means it, and the VRs of private elements are lost with it.
 */
export function orderTransferSyntaxes(proposed: readonly string[]): string[] {
  const rest = proposed.filter((uid) => uid !== BIG_ENDIAN && uid !== DEFLATED);
  const implicit = rest.indexOf(IMPLICIT_LITTLE);
  const explicit = rest.indexOf(EXPLICIT_LITTLE);
  if (implicit >= 0 && explicit > implicit) {
    rest.splice(explicit, 1);
    rest.splice(implicit, 0, EXPLICIT_LITTLE);
  }
  const last = [DEFLATED, BIG_ENDIAN].filter((uid) => proposed.includes(uid));
  return [...new Set([...rest, ...last])];
}

function answer(context: ProposedContext, policy: NegotiationPolicy): AnsweredContext {
  const { id, abstractSyntax, transferSyntaxes } = context;
  // The transfer syntax of a refused context has no meaning, but DCMTK and others want one there.
  const refused = transferSyntaxes[0] ?? IMPLICIT_LITTLE;
  if (abstractSyntax === '' || !policy.abstractSyntax(abstractSyntax))
    return { id, result: 3, transferSyntax: refused };
  const chosen = orderTransferSyntaxes(transferSyntaxes).find((uid) => policy.transferSyntax(abstractSyntax, uid));
  if (chosen === undefined) return { id, result: 4, transferSyntax: refused };
  return { id, result: 0, transferSyntax: chosen };
}

export function negotiate(rq: AssociateRq, policy: NegotiationPolicy): Accepted {
  const contexts = rq.contexts.map((context) => answer(context, policy) as Accepted['contexts'][number]);
  const accepted = new Set(
    rq.contexts.filter((_, n) => contexts[n]!.result === 0).map((context) => context.abstractSyntax),
  );
  const roles: RoleSelection[] = [];
  for (const proposed of rq.user.roles) {
    if (!accepted.has(proposed.sopClassUid) || roles.some((role) => role.sopClassUid === proposed.sopClassUid))
      continue;
    const granted = policy.role?.(proposed) ?? { scu: proposed.scu, scp: false };
    // Only what was proposed can be granted (PS3.7 Table D.3-9).
    roles.push({
      sopClassUid: proposed.sopClassUid,
      scu: proposed.scu && granted.scu,
      scp: proposed.scp && granted.scp,
    });
  }
  const extended: { sopClassUid: string; info: Buffer }[] = [];
  for (const item of rq.user.extended) {
    if (!accepted.has(item.sopClassUid)) continue;
    const info = policy.extended?.(item.sopClassUid, item.info);
    if (info !== undefined) extended.push({ sopClassUid: item.sopClassUid, info });
  }
  return { accept: true, contexts, roles, extended };
}

/** What no policy can accept (PS3.8 Table 9-21). */
export function unacceptable(rq: AssociateRq): { result: number; source: number; reason: number } | undefined {
  // Bit 0 is version 1; the other bits are not tested (PS3.8 §9.3.2).
  if ((rq.protocolVersion & 1) === 0) return REJECT.protocolVersion;
  if (rq.applicationContext !== APPLICATION_CONTEXT) return REJECT.applicationContext;
  return undefined;
}
