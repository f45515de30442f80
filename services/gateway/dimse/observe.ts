import { type StatusKind, statusKind } from '#dimse/status.ts';
import type { Association, Decision, Incoming } from '#dimse/types.ts';
import type { Call } from '#platform/call.ts';
import type { Context } from '#platform/module.ts';
import type { Span } from '#platform/trace.ts';
import type { Session } from './session.ts';

/** A modality may hold its association for days: what comes after so many operations begins traces of its own, linked to it. */
const OPERATIONS_A_TRACE = 1_000;

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600];

export interface Observation {
  /** Every A-ASSOCIATE-RQ, and what became of it. */
  requested(decision: Decision): void;
  ended(how: string): void;
  /** The span of a whole association, from its request on. */
  associated(association: Association, call: Call): Span;
  /** Runs one operation as a step of the association, counted by how its last answer was. */
  operation(session: Session, incoming: Incoming, service: string, work: () => Promise<void>): Promise<void>;
}

/** Rate, errors and duration of each DIMSE service; associations by how they began and ended; their traces. */
export function observe({ metrics, trace }: Context): Observation {
  const requests = metrics.counter('gantry_dimse_association_requests_total', 'Associations asked for, by the answer');
  const associations = metrics.counter('gantry_dimse_associations_total', 'Associations by how they ended');
  const operations = metrics.counter('gantry_dimse_operations_total', 'DIMSE operations by service and outcome');
  const seconds = metrics.histogram('gantry_dimse_operation_seconds', 'Duration of DIMSE operations', SECONDS);
  const counts = new WeakMap<Association, number>();

  /** The last answer to each message is how its operation went: every handler answers in its own place. */
  const finals = new WeakMap<Incoming, StatusKind>();
  const listenTo = (association: Association): void => {
    const respond = association.respond.bind(association);
    association.respond = (incoming, fields, data) => {
      finals.set(incoming, statusKind(fields.status));
      return respond(incoming, fields, data);
    };
  };

  function spanOf(session: Session, incoming: Incoming, service: string): Span {
    const { association, call } = session;
    const count = (counts.get(association) ?? 0) + 1;
    counts.set(association, count);
    const attributes = { service, sopClassUid: incoming.abstractSyntax, transferSyntaxUid: incoming.transferSyntax };
    if (call.trace === undefined || count <= OPERATIONS_A_TRACE) return trace.begin(call, service, { attributes });
    const { trace: whole, ...untraced } = call;
    return trace.root(untraced, service, undefined, { attributes, links: [whole!] });
  }

  return {
    requested(decision) {
      // PS3.8 §9.3.4: result, source and reason are numbers of a closed table.
      const reason = decision.accept ? '' : `${decision.result}/${decision.source}/${decision.reason}`;
      requests.add(1, { result: decision.accept ? 'accepted' : 'rejected', reason });
    },
    ended: (how) => associations.add(1, { ended: how }),
    associated(association, call) {
      listenTo(association);
      const { callingAeTitle, calledAeTitle, peer } = association;
      return trace.root(call, 'dimse.association', undefined, {
        kind: 'server',
        startMs: asked.get(association.rq) ?? Date.now(),
        attributes: { callingAeTitle, calledAeTitle, address: peer.address, associationId: call.requestId },
      });
    },
    async operation(session, incoming, service, work) {
      const began = performance.now();
      const whole = session.call;
      const span = spanOf(session, incoming, service);
      session.call = span.call; // one operation at a time: until it ends, what is done is done in its step
      let outcome: string = 'broken';
      try {
        await work();
        outcome = finals.get(incoming) ?? 'unanswered';
      } finally {
        session.call = whole;
        operations.add(1, { service, outcome });
        seconds.record((performance.now() - began) / 1e3, { service }, span.call);
        span.set({ outcome });
        span.end();
      }
    },
  };
}

/** When its first bytes had come: an A-ASSOCIATE-RQ is read at once. */
const asked = new WeakMap<Association['rq'], number>();
export const noteAsked = (rq: Association['rq']): void => void asked.set(rq, Date.now());
