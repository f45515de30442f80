import type { IncomingHttpHeaders } from 'node:http';
import { BlockList, isIP } from 'node:net';
import { GantryError } from '#platform/errors.ts';
import { isLoopback } from '#platform/net.ts';

/** Who is at the other end, and under which origin it sees us. */
export interface Peer {
  address: string;
  /** `https://pacs.example`: every URL in an answer begins with it. */
  origin: string;
}

export interface PeerRules {
  /** `http.publicUrl`, or empty. */
  publicUrl: string;
  trusted: (address: string) => boolean;
  /** `http.hosts`. */
  hosts: readonly string[];
  /** `http.host`. */
  listening: string;
}

export interface Connection {
  remoteAddress: string;
  localAddress: string;
  localPort: number;
  httpVersion: string;
  headers: IncomingHttpHeaders;
}

/**
 * A browser that was led here by a foreign name sends that name (DNS rebinding): only names that are ours are served. What a proxy
 * says of its client (X-Forwarded-*) counts only from an address in `http.trustedProxies`: anybody can send such a header.
 */
export function peerOf(connection: Connection, rules: PeerRules): Peer {
  const { headers } = connection;
  const proxied = rules.trusted(connection.remoteAddress);
  const host = (proxied ? lastOf(headers['x-forwarded-host']) : undefined) ?? headers.host ?? '';
  checkHost(host, connection.httpVersion, rules);
  const address = proxied ? clientOf(headers['x-forwarded-for'], connection, rules) : connection.remoteAddress;
  if (rules.publicUrl !== '') return { address, origin: rules.publicUrl.replace(/\/+$/, '') };
  const proto = proxied && lastOf(headers['x-forwarded-proto'])?.toLowerCase() === 'https' ? 'https' : 'http';
  return { address, origin: `${proto}://${withPort(host, connection, proxied)}` };
}

/** The nearest proxy writes last; what stands before it may be made up. */
function lastOf(header: string | string[] | undefined): string | undefined {
  const last = [header].flat().join(',').split(',').at(-1)?.trim();
  return last === '' ? undefined : last;
}

/** From the right: the first address that is no proxy of ours (RFC 7239 §8.1). */
function clientOf(header: string | string[] | undefined, { remoteAddress }: Connection, rules: PeerRules): string {
  for (const one of [header].flat().join(',').split(',').toReversed()) {
    const address = one.trim().replace(/^\[(.*)\]$/, '$1');
    if (isIP(address) === 0) return remoteAddress;
    if (!rules.trusted(address)) return address;
  }
  return remoteAddress;
}

const nameOf = (host: string): string => {
  const lower = host.toLowerCase();
  return lower.startsWith('[') ? lower.slice(1, lower.indexOf(']')) : lower.replace(/:\d+$/, '');
};

function checkHost(host: string, httpVersion: string, { hosts, listening, publicUrl }: PeerRules): void {
  const name = nameOf(host);
  if (name === '' && httpVersion === '1.0') return; // no browser
  if (isLoopback(name) || name === listening.toLowerCase()) return;
  if (!/^[\w.:-]+$/.test(name)) throw new GantryError('invalid-argument', 'the Host header holds no host name');
  if (hosts.includes('*') || hosts.some((one) => one.toLowerCase() === name)) return;
  if (publicUrl !== '' && nameOf(new URL(publicUrl).host) === name) return;
  // An address is not a name that somebody else's DNS could point at us.
  if (!isLoopback(listening) && isIP(name) !== 0) return;
  throw new GantryError('permission-denied', 'this Host is not ours: list it in http.hosts');
}

/** Python's dicomweb-client sends Host without our port, and then follows URLs made of it: where it names this socket, we know better. */
function withPort(host: string, { localAddress, localPort }: Connection, proxied: boolean): string {
  if (host === '') return `localhost:${localPort}`;
  const name = nameOf(host);
  const bare = host.startsWith('[') ? host.endsWith(']') : !host.includes(':');
  if (!bare || proxied || localPort === 80) return host;
  return isLoopback(name) || name === localAddress.replace(/^::ffff:/, '') ? `${host}:${localPort}` : host;
}

/** Addresses and networks (`10.0.0.0/8`) of `http.trustedProxies`; throws a sentence for what is neither. */
export function addressMatcher(entries: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const entry of entries) {
    const [address = '', bits] = entry.split('/');
    const family = isIP(address);
    const bitsMax = family === 4 ? 32 : 128;
    if (family === 0 || (bits !== undefined && (!/^\d{1,3}$/.test(bits) || Number(bits) > bitsMax)))
      throw new Error(`${entry} is no IP address or network such as 10.0.0.0/8`);
    list.addSubnet(address, bits === undefined ? bitsMax : Number(bits), family === 4 ? 'ipv4' : 'ipv6');
  }
  return (address) => {
    const plain = address.replace(/^::ffff:(?=\d+\.)/, '');
    const family = isIP(plain);
    return family !== 0 && list.check(plain, family === 4 ? 'ipv4' : 'ipv6');
  };
}
