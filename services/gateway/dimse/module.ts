import { ulid } from 'ulid';
import { listen } from '#dimse/acceptor.ts';
import type { CloseReason } from '#dimse/errors.ts';
import { STATUS } from '#dimse/status.ts';
import type { Acceptor, Association, Incoming } from '#dimse/types.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context, Module, Running } from '#platform/module.ts';
import { listenHosts } from '#platform/net.ts';
import { AuthService } from '#proto/auth/v1/auth.ts';
import { createReader } from '../read.ts';
import { createReadYourWrites } from '../read-your-writes.ts';
import { createCommitments } from './commitment.ts';
import { serveControl } from './control.ts';
import { echo } from './echo.ts';
import { find } from './find.ts';
import { get } from './get.ts';
import { move } from './move.ts';
import { noteAsked, observe } from './observe.ts';
import { decide, peerOf } from './policy.ts';
import { createRetrieves } from './retrieves.ts';
import { serviceFor } from './services.ts';
import { auditRejected, auditStored, type Door, failure, type Handler, isOurselves, type Session } from './session.ts';
import { checkDimseSettings, dimseSettings, limitsFrom } from './settings.ts';
import { store } from './store.ts';

/** Of the time to drain, what is kept for last answers. */
const LAST_ANSWERS_MS = 5_000;

/** The DIMSE door: associations, and the services of services.ts. */
export const dimseModule: Module = {
  name: 'gateway/dimse',
  settings: dimseSettings,
  check: checkDimseSettings,
  async start(context: Context): Promise<Running> {
    const { settings, log, metrics } = context;
    const hosts = listenHosts(settings.string('dimse.host'));
    let port = settings.number('dimse.port');
    const acceptors: Acceptor[] = [];
    const open = (): Association[] => acceptors.flatMap((acceptor) => [...acceptor.associations]);
    const sessions = new Map<Association, Session>();
    const ending = new AbortController();
    const door: Door = {
      context,
      reader: createReader(context),
      written: createReadYourWrites(context),
      retrieves: createRetrieves(() =>
        Math.min(settings.number('dimse.retrievesMax'), Math.ceil(settings.number('dimse.associationsMax') / 2)),
      ),
      ending: ending.signal,
      port: () => port,
      ownHost: hosts[0] === '0.0.0.0' || hosts[0] === undefined ? '127.0.0.1' : hosts[0] === '::' ? '::1' : hosts[0],
    };
    const commitments = createCommitments(door);
    const handlers: Record<string, Handler> = {
      'dimse.c-echo': echo,
      'dimse.c-store': store,
      'dimse.c-find': find,
      'dimse.c-move': move,
      'dimse.c-get': get,
      'dimse.n-action.storage-commitment': commitments.handle,
    };
    const auth = context.client(AuthService);
    const observed = observe(context);
    metrics.gauge('gantry_dimse_associations', 'Open associations', () => open().length);
    metrics.gauge('gantry_dimse_retrieves', 'C-MOVE and C-GET at work', () => door.retrieves.running());

    async function serve(association: Association): Promise<void> {
      const { callingAeTitle, calledAeTitle, peer } = association;
      const requestId = ulid();
      const nobody = { id: callingAeTitle, kind: 'ae', roles: [], tenant: 'main' };
      const first = { tenant: 'main', principal: nobody, requestId, signal: association.signal };
      const { principal } = isOurselves(settings.string('dimse.aeTitle'), callingAeTitle, peer.address)
        ? { principal: { ...nobody, roles: ['peer'] } } // auth may run on another machine, and could not tell that this one is ours
        : await auth.authenticate(first, {
            evidence: { $case: 'ae', value: { callingAeTitle, calledAeTitle } },
            address: peer.address,
          });
      if (principal === undefined) throw new GantryError('unauthenticated', 'who calls could not be told');
      const span = observed.associated(association, { ...first, tenant: principal.tenant, principal });
      const session: Session = {
        door,
        association,
        call: span.call,
        peer: peerOf(settings, callingAeTitle),
        since: new Date().toISOString(),
        stored: { instances: 0, bytes: 0, refused: 0 },
        unaudited: { instances: 0, refused: 0, studies: new Set(), sinceMs: 0 },
      };
      sessions.set(association, session);
      log.info(
        { associationId: requestId, callingAeTitle, calledAeTitle, address: peer.address },
        'association opened',
      );
      try {
        for await (const incoming of association.messages()) await operate(session, incoming);
      } catch (error) {
        association.abort('an operation failed'); // before anybody waits for its end
        throw error;
      } finally {
        sessions.delete(association);
        const reason = await association.closed;
        ended(session, reason);
        span.set({ ended: reason.kind, instances: session.stored.instances });
        span.end();
      }
    }

    async function operate(session: Session, incoming: Incoming): Promise<void> {
      const { association } = session;
      const row = serviceFor(incoming.abstractSyntax, incoming.command.commandField);
      const handler = row === undefined ? undefined : handlers[row.useCase];
      if (row === undefined || handler === undefined) {
        await association.respond(incoming, { status: STATUS.UNRECOGNIZED_OPERATION });
        return;
      }
      await observed.operation(session, incoming, row.useCase, () =>
        authorized(session, incoming, row.useCase, handler),
      );
    }

    async function authorized(session: Session, incoming: Incoming, useCase: string, handler: Handler): Promise<void> {
      const { association } = session;
      let refusal: { status: number; errorComment?: string } | undefined;
      try {
        const request = { principal: session.call.principal, action: useCase, resource: '' };
        const { allowed } = await auth.authorize(session.call, request);
        if (!allowed) refusal = { status: STATUS.NOT_AUTHORIZED, errorComment: 'not allowed for this AE title' };
        else if (!association.contexts.get(incoming.contextId)!.requestorScu)
          refusal = { status: STATUS.NOT_AUTHORIZED, errorComment: 'role selection left you no SCU on this context' };
      } catch (error) {
        refusal = failure(session, error);
      }
      if (refusal === undefined) return handler(session, incoming);
      await incoming.data?.discard();
      await association.respond(incoming, refusal);
    }

    function ended(session: Session, reason: CloseReason): void {
      const how = reason.kind;
      const { association, call, stored } = session;
      observed.ended(how);
      log.info(
        {
          associationId: call.requestId,
          callingAeTitle: association.callingAeTitle,
          address: association.peer.address,
          ended: how,
          detail: reason.detail,
          limit: reason.limit,
          instances: stored.instances,
          bytes: stored.bytes,
          refused: stored.refused,
          received: association.counters.bytesReceived,
          sent: association.counters.bytesSent,
        },
        'association closed',
      );
      auditStored(session);
    }

    for (const host of hosts) {
      try {
        const acceptor = await listen({
          host,
          port,
          reusePort: settings.boolean('platform.reusePort'),
          limits: limitsFrom(settings),
          onRequest: (rq, peer) => {
            if (!context.ready()) return { accept: false, result: 2, source: 3, reason: 1 };
            noteAsked(rq);
            const decision = decide(settings, open(), rq, peer.address);
            observed.requested(decision);
            if (!decision.accept) {
              observed.ended('rejected');
              log.info(
                {
                  callingAeTitle: rq.callingAeTitle.trim(),
                  calledAeTitle: rq.calledAeTitle.trim(),
                  address: peer.address,
                  reject: `${decision.result}/${decision.source}/${decision.reason}`,
                },
                'association rejected',
              );
              auditRejected(context, rq, peer.address, decision);
            }
            return decision;
          },
          onAssociation: serve,
          onClosed: (association, reason, peer) => {
            // Told and counted above: what was established, and what was rejected.
            if (association !== undefined || reason.kind === 'rejected') return;
            observed.ended(reason.kind);
            const { kind, detail, limit } = reason;
            log.debug({ address: peer.address, ended: kind, detail, limit }, 'connection without an association');
          },
          onError: (error, association) =>
            log.warn(
              { err: error, associationId: association && sessions.get(association)?.call.requestId },
              'association failed',
            ),
        });
        port = acceptor.port; // the same on every address
        acceptors.push(acceptor);
      } catch (cause) {
        const code = (cause as NodeJS.ErrnoException).code;
        if (host === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) continue; // no IPv6 on this machine
        await Promise.all(acceptors.map((acceptor) => acceptor.close(0)));
        throw new GantryError(
          'unavailable',
          `cannot listen on ${host} port ${port} (${code}): is another Gantry running? Set dimse.port to another port.`,
          { cause },
        );
      }
    }
    settings.onChange(() => {
      for (const acceptor of acceptors) acceptor.setLimits(limitsFrom(settings));
    });
    serveControl(context, door, commitments, () => [...sessions.values()], hosts);
    const stopCommitments = commitments.work();
    log.info({ port, hosts, aeTitle: settings.string('dimse.aeTitle') }, 'DIMSE door open');

    const close = (drainMs: number) => Promise.all(acceptors.map((acceptor) => acceptor.close(drainMs)));
    return {
      // Peers release when they have sent what they have; who does not is told in time to hear the answer to what is in flight.
      drain: async (signal) => {
        const idleMs = settings.number('dimse.drainIdleMs');
        const left = Promise.all(acceptors.map((acceptor) => acceptor.leave(idleMs)));
        const drainMs = settings.number('platform.drainMs');
        const lastMs = Math.min(LAST_ANSWERS_MS, drainMs / 4);
        const time = Promise.withResolvers<void>();
        const timer = setTimeout(time.resolve, drainMs - lastMs);
        signal.addEventListener('abort', () => time.resolve(), { once: true });
        await Promise.race([left, time.promise]);
        clearTimeout(timer);
        ending.abort();
        await Promise.race([
          close(lastMs),
          new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true })),
        ]);
      },
      stop: async () => {
        await close(0);
        door.written.stop();
        await stopCommitments();
      },
    };
  },
};
