/** What came out of a negotiation, seen alike from both sides: pure. */
import type { AssociateAc, AssociateRq } from './pdu.ts';
import type { AcceptedContext } from './types.ts';

export function acceptedContexts(rq: AssociateRq, ac: AssociateAc): AcceptedContext[] {
  return ac.contexts.flatMap((answer): AcceptedContext[] => {
    const proposed = rq.contexts.find((context) => context.id === answer.id);
    // A context that nobody proposed, or a syntax that was not offered in it, cannot be used: as good as refused.
    if (answer.result !== 0 || !proposed?.transferSyntaxes.includes(answer.transferSyntax)) return [];
    const { id, abstractSyntax } = proposed;
    const asked = rq.user.roles.find((role) => role.sopClassUid === abstractSyntax);
    const granted = ac.user.roles.find((role) => role.sopClassUid === abstractSyntax);
    // Without an agreed role selection the defaults hold (PS3.7 §D.3.3.4).
    const agreed = asked !== undefined && granted !== undefined;
    const requestorScu = agreed ? asked.scu && granted.scu : true;
    const requestorScp = agreed ? asked.scp && granted.scp : false;
    return [{ id, abstractSyntax, transferSyntax: answer.transferSyntax, requestorScu, requestorScp }];
  });
}

/** The first that fits; `as` is the role that the side `ours` would play. */
export function chooseContext(
  contexts: Iterable<AcceptedContext>,
  ours: 'acceptor' | 'requestor',
  abstractSyntax: string,
  transferSyntax?: string,
  as?: 'scu' | 'scp',
): AcceptedContext | undefined {
  for (const context of contexts) {
    if (context.abstractSyntax !== abstractSyntax) continue;
    if (transferSyntax !== undefined && context.transferSyntax !== transferSyntax) continue;
    // The requestor plays its own role, the acceptor the other one.
    const asRequestor = (as === 'scu') === (ours === 'requestor');
    if (as !== undefined && !(asRequestor ? context.requestorScu : context.requestorScp)) continue;
    return context;
  }
  return undefined;
}
