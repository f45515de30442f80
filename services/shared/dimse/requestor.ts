/** The requesting side: connect, ask, and hand over the association. */
import net, { type Socket } from 'node:net';
import tls from 'node:tls';
import { type AssociationOwner, LiveAssociation } from './association.ts';
import { AssociationError, type CloseReason, closedError } from './errors.ts';
import { IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME } from './implementation.ts';
import { type Limits, withDefaults } from './limits.ts';
import { APPLICATION_CONTEXT, type AssociateRq } from './pdu.ts';
import type { Association, ConnectOptions, Peer } from './types.ts';

export const CONTEXTS_MAX = 128; // odd ids of one byte

function associateRq(options: ConnectOptions, limits: Limits): AssociateRq {
  const { contexts } = options;
  if (contexts.length === 0 || contexts.length > CONTEXTS_MAX) {
    throw new RangeError(`an association has 1 to ${CONTEXTS_MAX} presentation contexts, not ${contexts.length}`);
  }
  return {
    protocolVersion: 1,
    calledAeTitle: options.calledAeTitle,
    callingAeTitle: options.callingAeTitle,
    applicationContext: APPLICATION_CONTEXT,
    contexts: contexts.map((context, n) => ({ id: 2 * n + 1, ...context })),
    user: {
      maxPduLength: limits.pduLengthMax,
      implementationClassUid: IMPLEMENTATION_CLASS_UID,
      implementationVersionName: IMPLEMENTATION_VERSION_NAME,
      roles: options.roles ?? [],
      extended: options.extended ?? [],
      commonExtended: [],
      userIdentity: options.userIdentity,
    },
  };
}

/** Resolves when the association is established; AssociationError (`rejected`, `connect-failed`, `timeout` …) when it is not. */
export async function connect(options: ConnectOptions): Promise<Association> {
  const limits = withDefaults(options.limits);
  const rq = associateRq(options, limits);
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) {
      reject(new AssociationError('cancelled', 'cancelled before connecting'));
      return;
    }
    const { host, port } = options;
    const secure = options.tls;
    const socket: Socket =
      secure === undefined
        ? net.connect({ host, port })
        : tls.connect({ servername: sni(host), ...secure, host, port });
    let association: LiveAssociation | undefined;

    const settle = () => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', cancelled);
      socket.off('error', connectFailed);
    };
    const giveUp = (reason: CloseReason, error: AssociationError) => {
      settle();
      reject(error); // before the abort, which would say less
      if (association === undefined) socket.destroy();
      else association.upper.abort(reason);
    };
    const timer = setTimeout(() => {
      const detail = `no association within ${limits.acceptTimeoutMs} ms`;
      const reason: CloseReason = { kind: 'timeout', detail, limit: 'acceptTimeoutMs' };
      giveUp(reason, closedError(reason));
    }, limits.acceptTimeoutMs);
    const cancelled = () =>
      giveUp({ kind: 'aborted', detail: 'cancelled' }, new AssociationError('cancelled', 'cancelled while connecting'));
    const connectFailed = (error: Error) => {
      if (association !== undefined) return;
      settle();
      const code = (error as NodeJS.ErrnoException).code ?? error.message;
      reject(new AssociationError('connect-failed', `no connection to ${host}:${port}: ${code}`, { cause: error }));
    };
    options.signal?.addEventListener('abort', cancelled, { once: true });
    socket.on('error', connectFailed);

    const owner: AssociationOwner = {
      established: (it) => {
        settle();
        resolve(it);
      },
      ended: (_, reason) => {
        settle();
        reject(closedError(reason));
      },
      socketClosed: () => undefined,
      failed: (_, error) => {
        throw error; // our own defect: the association is aborted already, and nobody here can mend it
      },
    };
    socket.once(secure === undefined ? 'connect' : 'secureConnect', () => {
      const peer: Peer = { address: socket.remoteAddress ?? host, port: socket.remotePort ?? port };
      if (socket instanceof tls.TLSSocket) {
        const certificate = socket.getPeerCertificate();
        peer.tls = {
          authorized: socket.authorized,
          fingerprint256: certificate.fingerprint256,
          protocol: socket.getProtocol(),
        };
      }
      association = new LiveAssociation(socket, 'requestor', peer, limits, owner);
      association.rq = rq;
      association.upper.associate(rq);
    });
  });
}

/** RFC 6066 forbids addresses as a server name. */
function sni(host: string): string | undefined {
  return net.isIP(host) === 0 ? host : undefined;
}
