import { isStorageClass, TransferSyntaxUid } from '#dicom/uids.ts';
import { negotiate } from '#dimse/negotiate.ts';
import type { AssociateRq } from '#dimse/pdu.ts';
import { REJECT } from '#dimse/reasons.ts';
import type { Association, Decision } from '#dimse/types.ts';
import type { Settings } from '#platform/module.ts';
import { isLoopback } from '#platform/net.ts';
import type { Peer, PeerService } from '#platform/peers.ts';
import { MODELS, servicesOf } from './services.ts';
import { isOurselves } from './session.ts';

const title = (text: string): string => text.replace(/[\0 ]+$/, '').replace(/^[\0 ]+/, '');

/** Read when used: SIGHUP changes them. */
export const peersOf = (settings: Settings): Peer[] => settings.value<Peer[]>('peers');
export const peerOf = (settings: Settings, aeTitle: string): Peer | undefined =>
  peersOf(settings).find((peer) => peer.aeTitle === aeTitle);

/** Whom the door serves, and what it takes from them (PS3.8 §7.1.1.9). Pure: settings, open associations, and the request. */
export function decide(settings: Settings, open: Iterable<Association>, rq: AssociateRq, address: string): Decision {
  const called = title(rq.calledAeTitle);
  const calling = title(rq.callingAeTitle);
  const ours = settings.string('dimse.aeTitle');
  if (called !== ours && !settings.boolean('dimse.acceptAnyCalledTitle')) return REJECT.calledAeTitle;
  const peer = peerOf(settings, calling);
  // We call ourselves when somebody moves to us, from whatever address of this machine we listen on.
  if (
    peer === undefined &&
    !isOurselves(ours, calling, address) &&
    !isLoopback(address) &&
    !settings.boolean('dimse.acceptUnknown')
  )
    return REJECT.callingAeTitle;

  let all = 0;
  let same = 0;
  for (const association of open) {
    all++;
    if (association.callingAeTitle === calling && association.peer.address === address) same++;
  }
  const perPeer =
    peer !== undefined && peer.associationsMax > 0
      ? peer.associationsMax
      : settings.number('dimse.associationsPerPeerMax');
  if (all >= settings.number('dimse.associationsMax') || same >= perPeer) return REJECT.localLimitExceeded;

  const may = (service: PeerService): boolean => peer === undefined || peer.services.includes(service);
  const receives = (uid: string): boolean => rq.user.roles.some((role) => role.sopClassUid === uid && role.scp);
  const decision = negotiate(rq, {
    abstractSyntax: (uid) =>
      servicesOf(uid).some((row) => may(row.permission)) ||
      // Who may only retrieve needs storage contexts all the same, to take what a C-GET sends.
      (isStorageClass(uid) && may('get') && receives(uid)),
    // Storage takes any syntax, private ones too: bytes are kept as they come. Identifiers are read and written.
    transferSyntax: (abstract, uid) => isStorageClass(abstract) || IDENTIFIER_SYNTAXES.has(uid),
    role: ({ sopClassUid, scu, scp }) =>
      isStorageClass(sopClassUid) ? { scu: scu && may('store'), scp: scp && may('get') } : { scu, scp: false },
    extended: (sopClassUid, info) => extendedAnswer(sopClassUid, info),
  });
  return peer !== undefined && peer.pduLengthMax > 0 ? { ...decision, pduLengthMax: peer.pduLengthMax } : decision;
}

const IDENTIFIER_SYNTAXES = new Set<string>([TransferSyntaxUid.implicitLe, TransferSyntaxUid.explicitLe]);

/**
 * PS3.4 §C.5.1.1 (find: relational, date-time, fuzzy, timezone, empty and multiple value matching), §C.5.2.1 (retrieve: relational), §B.3.1 (storage: level 2, bit-preserving,
 * no coercion). What was not asked for is not granted; conversion to enhanced multi-frame is not offered.
 */
function extendedAnswer(sopClassUid: string, info: Buffer): Buffer | undefined {
  const supported = MODELS.some((model) => model.find === sopClassUid)
    ? [1, 1, 1, 1, 0, 1, 1]
    : MODELS.some((model) => model.move === sopClassUid || model.get === sopClassUid)
      ? [1, 0]
      : undefined;
  if (supported !== undefined)
    return Buffer.from(supported.slice(0, Math.max(info.length, 1)).map((can, i) => ((info[i] ?? 0) === 1 ? can : 0)));
  return isStorageClass(sopClassUid) ? Buffer.from([2, 0, 3, 0, 0, 0]) : undefined;
}

/** What the acceptor granted in extended negotiation for this class, by the position of the byte. */
export function granted(association: Association, sopClassUid: string, byte: number): boolean {
  const item = association.ac.user.extended.find((one) => one.sopClassUid === sopClassUid);
  return item?.info[byte] === 1;
}
