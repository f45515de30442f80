import { encodingOf, isStorageClass } from '#dicom/uids.ts';
import { negotiate } from '#dimse/negotiate.ts';
import type { AssociateRq } from '#dimse/pdu.ts';
import { REJECT } from '#dimse/reasons.ts';
import type { Association, Decision } from '#dimse/types.ts';
import type { Settings } from '#platform/module.ts';
import { isLoopback } from '#platform/net.ts';
import type { Peer } from '#platform/peers.ts';
import { MODELS, servicesOf } from './services.ts';

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
  if (peer === undefined && !isLoopback(address) && !settings.boolean('dimse.acceptUnknown'))
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

  return negotiate(rq, {
    abstractSyntax: (uid) =>
      servicesOf(uid).some((row) => peer === undefined || peer.services.includes(row.permission)),
    // Storage takes any syntax, private ones too: bytes are kept as they come. Identifiers are read, so they are uncompressed.
    transferSyntax: (abstract, uid) => isStorageClass(abstract) || encodingOf(uid) !== 'encapsulated',
    role: (proposed) => ({ scu: proposed.scu, scp: proposed.scp && isStorageClass(proposed.sopClassUid) }),
    extended: (sopClassUid, info) => extendedAnswer(sopClassUid, info),
  });
}

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
