/** The accepting side: connections, admission, associations, shutdown. */
import net, { type Socket } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { type AssociationOwner, LiveAssociation } from './association.ts';
import type { CloseReason } from './errors.ts';
import { IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME } from './implementation.ts';
import { type Limits, withDefaults } from './limits.ts';
import { APPLICATION_CONTEXT, type AssociateAc, type AssociateRq } from './pdu.ts';
import { REJECT } from './reasons.ts';
import type { Acceptor, Association, Decision, ListenOptions, Peer } from './types.ts';

const LOOK_MS = 250;
const SHUTTING_DOWN: CloseReason = { kind: 'aborted', detail: 'this side is shutting down' };

/** A peer sends its request as soon as it is connected; this is many round trips. */
const JUDGED_AFTER_MS = 100;

class LiveAcceptor implements Acceptor, AssociationOwner {
  readonly associations = new Set<Association>();
  private readonly options: ListenOptions;
  private readonly server: net.Server;
  private limits: Limits;
  /** Oldest first: sockets in the TLS handshake, before their A-ASSOCIATE-RQ, or after their last PDU. Any of them may be dropped. */
  private readonly waiting = new Map<Socket, LiveAssociation | undefined>();
  private readonly live = new Set<LiveAssociation>();
  private readonly sockets = new Map<LiveAssociation, Socket>();
  private readonly serving = new Set<Promise<void>>();

  constructor(options: ListenOptions) {
    this.options = options;
    this.limits = withDefaults(options.limits);
    // noDelay and keepAlive are set by the upper layer, for both sides alike.
    this.server = net.createServer({ pauseOnConnect: false }, (socket) => this.connected(socket));
  }

  async start(): Promise<void> {
    if (this.options.tls !== undefined) this.secure(this.options.tls);
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      const { host, port, reusePort } = this.options;
      this.server.listen({ host, port, reusePort, backlog: 511 }, () => {
        this.server.off('error', reject);
        resolve();
      });
    });
    this.server.on('error', (error) => this.options.onError?.(error, undefined));
  }

  get port(): number {
    return (this.server.address() as net.AddressInfo).port;
  }

  get host(): string {
    return (this.server.address() as net.AddressInfo).address;
  }

  get unnegotiated(): number {
    return this.waiting.size;
  }

  setLimits(limits: Partial<Limits>): void {
    this.limits = withDefaults(limits);
  }

  // --- connections

  /** A TLS server that never listens: sockets are given to it, so that they are counted and timed from the first byte on. */
  private secure(options: tls.TlsOptions): void {
    const handshake = tls.createServer({ handshakeTimeout: this.limits.artimMs, ...options });
    const rawOf = new Map<string, Socket>();
    const nameOf = (socket: Socket) => `${socket.remoteAddress}|${socket.remotePort}`;
    handshake.on('secureConnection', (socket: TLSSocket) => {
      const raw = rawOf.get(nameOf(socket));
      if (raw !== undefined) this.waiting.delete(raw);
      this.converse(socket, {
        authorized: socket.authorized,
        subject: commonName(socket),
        fingerprint256: socket.getPeerCertificate().fingerprint256,
        protocol: socket.getProtocol(),
      });
    });
    handshake.on('tlsClientError', (error, socket) => {
      const reason: CloseReason = { kind: 'connection-lost', detail: `TLS handshake failed: ${errorCode(error)}` };
      this.options.onClosed?.(undefined, reason, peerOf(socket), noCounters());
      socket.destroy();
    });
    this.handshake = (socket) => {
      const name = nameOf(socket);
      rawOf.set(name, socket);
      socket.once('close', () => rawOf.delete(name));
      handshake.emit('connection', socket);
    };
  }

  private handshake: ((socket: Socket) => void) | undefined;
  private judging: NodeJS.Timeout | undefined;
  private readonly waitingSince = new WeakMap<Socket, number>();

  private connected(socket: Socket): void {
    if (this.handshake === undefined) {
      this.converse(socket);
      return;
    }
    this.wait(socket, undefined);
    socket.on('error', () => socket.destroy()); // told by tlsClientError
    socket.once('close', () => this.waiting.delete(socket));
    this.handshake(socket);
  }

  private converse(socket: Socket, tlsPeer?: Peer['tls']): void {
    const association = new LiveAssociation(socket, 'acceptor', { ...peerOf(socket), tls: tlsPeer }, this.limits, this);
    this.sockets.set(association, socket);
    this.wait(socket, association);
    association.upper.accepted();
  }

  /**
   * Too many: the oldest go, so that idle connections never keep a modality out. Not at once: in a storm many are accepted in one turn, and
   * the request of one among them, already on its way, must be read before anybody is judged. Four times too many is no storm any more.
   */
  private wait(socket: Socket, association: LiveAssociation | undefined): void {
    this.waiting.set(socket, association);
    this.waitingSince.set(socket, performance.now());
    const max = this.limits.unnegotiatedMax;
    if (this.waiting.size > 4 * max) this.closeOldest();
    if (this.waiting.size <= max || this.judging !== undefined) return;
    this.judging = setTimeout(() => this.judge(), JUDGED_AFTER_MS);
  }

  private judge(): void {
    this.judging = undefined;
    const ripe = performance.now() - JUDGED_AFTER_MS;
    for (const socket of this.waiting.keys()) {
      if (this.waiting.size <= this.limits.unnegotiatedMax) return;
      if ((this.waitingSince.get(socket) ?? 0) > ripe) break; // it and those after it came later
      this.closeOldest();
    }
    if (this.waiting.size > this.limits.unnegotiatedMax) this.judging = setTimeout(() => this.judge(), JUDGED_AFTER_MS);
  }

  private closeOldest(): void {
    const [oldest, its] = this.waiting.entries().next().value!;
    this.waiting.delete(oldest);
    const detail = 'too many connections without an association: the oldest was closed';
    oldest.destroy(); // first, or it would wait once more for its peer to close (ended)
    its?.upper.destroy({ kind: 'timeout', detail, limit: 'unnegotiatedMax' });
  }

  // --- associations (AssociationOwner)

  requested(association: LiveAssociation, rq: AssociateRq): void {
    this.waiting.delete(this.sockets.get(association)!);
    this.live.add(association);
    this.decide(association, rq).catch((error: unknown) => {
      association.upper.reject(REJECT.temporaryCongestion);
      this.options.onError?.(error, association);
    });
  }

  private async decide(association: LiveAssociation, rq: AssociateRq): Promise<void> {
    const decision = await this.options.onRequest(rq, association.peer);
    if (!decision.accept) association.upper.reject(decision);
    else association.accept(answer(rq, decision, this.limits));
  }

  established(association: LiveAssociation): void {
    this.associations.add(association);
    const served = this.serve(association).finally(() => this.serving.delete(served));
    this.serving.add(served);
  }

  private async serve(association: LiveAssociation): Promise<void> {
    try {
      await this.options.onAssociation(association);
    } catch (error) {
      // An association that ended under its handler is told by onClosed.
      if (association.upper.endedBecause === undefined) this.options.onError?.(error, association);
    }
    association.abort('no longer served');
  }

  ended(association: LiveAssociation, reason: CloseReason): void {
    this.live.delete(association);
    this.associations.delete(association);
    const socket = this.sockets.get(association);
    if (socket !== undefined && !socket.destroyed) this.wait(socket, association);
    const established = association.isEstablished ? association : undefined;
    this.options.onClosed?.(established, reason, association.peer, association.counters);
  }

  socketClosed(association: LiveAssociation): void {
    const socket = this.sockets.get(association);
    this.sockets.delete(association);
    if (socket !== undefined) this.waiting.delete(socket);
  }

  failed(association: LiveAssociation, error: unknown): void {
    this.options.onError?.(error, association);
  }

  // --- shutdown

  private stopped: Promise<void> | undefined;

  private stopListening(): Promise<void> {
    this.stopped ??= new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const [socket, association] of [...this.waiting]) {
      if (association === undefined) socket.destroy();
      else association.upper.destroy(SHUTTING_DOWN);
    }
    return this.stopped;
  }

  async leave(idleMs: number): Promise<void> {
    void this.stopListening();
    // Modalities hold associations for hours without a word: silence is told from a pause between two instances by its length.
    const quiet = new Map<LiveAssociation, { pdus: number; since: number }>();
    const look = (): void => {
      for (const association of [...this.live]) {
        const { pdusReceived } = association.counters;
        const last = quiet.get(association);
        if (!association.isIdle || last?.pdus !== pdusReceived)
          quiet.set(association, { pdus: pdusReceived, since: performance.now() });
        else if (performance.now() - last.since >= idleMs) association.abort(SHUTTING_DOWN.detail);
      }
    };
    look();
    const timer = setInterval(look, Math.min(LOOK_MS, Math.max(1, idleMs / 4)));
    while (this.live.size > 0) await Promise.race([...this.live].map((association) => association.closed));
    clearInterval(timer);
  }

  async close(drainMs: number): Promise<void> {
    const stopped = this.stopListening();
    clearTimeout(this.judging);
    const drained = Promise.all([...this.live].map((association) => association.closed));
    for (const association of [...this.live]) association.drainAndEnd();
    let timer: NodeJS.Timeout | undefined;
    const bounded = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, drainMs);
    });
    await Promise.race([drained, bounded]);
    clearTimeout(timer);
    for (const association of [...this.live]) association.abort(SHUTTING_DOWN.detail);
    await drained;
    await Promise.race([Promise.allSettled([...this.serving]), bounded]);
    for (const socket of [...this.sockets.values(), ...this.waiting.keys()]) socket.destroySoon();
    const lingering = setTimeout(() => {
      for (const socket of [...this.sockets.values(), ...this.waiting.keys()]) socket.destroy();
    }, 100);
    await stopped;
    clearTimeout(lingering);
  }
}

/** What an acceptance says beyond the decision: our own user information, honestly. */
function answer(rq: AssociateRq, decision: Extract<Decision, { accept: true }>, limits: Limits): AssociateAc {
  return {
    protocolVersion: 1,
    calledAeTitle: rq.calledAeTitle,
    callingAeTitle: rq.callingAeTitle,
    titles: rq.titles,
    applicationContext: APPLICATION_CONTEXT,
    contexts: decision.contexts,
    user: {
      maxPduLength: decision.pduLengthMax ?? limits.pduLengthMax,
      implementationClassUid: IMPLEMENTATION_CLASS_UID,
      implementationVersionName: IMPLEMENTATION_VERSION_NAME,
      // One at a time in both directions is what we do; the item is only allowed in answer to one (PS3.7 §D.3.3.3).
      asyncOperations: rq.user.asyncOperations === undefined ? undefined : { invoked: 1, performed: 1 },
      roles: decision.roles ?? [],
      extended: decision.extended ?? [],
      commonExtended: [], // never answered (PS3.7 §D.3.3.6)
      userIdentityResponse: decision.userIdentityResponse,
    },
  };
}

function peerOf(socket: Socket): Peer {
  return { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
}

function noCounters() {
  return { bytesReceived: 0, bytesSent: 0, pdusReceived: 0, messagesReceived: 0, messagesSent: 0 };
}

function commonName(socket: TLSSocket): string | undefined {
  const name = socket.getPeerCertificate().subject?.CN;
  return Array.isArray(name) ? name[0] : name;
}

function errorCode(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? error.name;
}

export async function listen(options: ListenOptions): Promise<Acceptor> {
  const acceptor = new LiveAcceptor(options);
  await acceptor.start();
  return acceptor;
}
