import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6');

/** True for addresses (and the one name) that only this machine can reach. Other names are not looked up: they may move. */
export function isLoopback(host: string): boolean {
  const bare = host
    .trim()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/%.*$/, '')
    .toLowerCase();
  if (bare === 'localhost' || bare === 'localhost.') return true;
  const family = isIP(bare);
  return family !== 0 && LOOPBACK.check(bare, family === 4 ? 'ipv4' : 'ipv6');
}

/** True for every address of this machine, loopback or not: only its own processes can come from one over TCP. */
export function isOwnAddress(address: string): boolean {
  if (isLoopback(address)) return true;
  const bare = address.replace(/^::ffff:/i, '').replace(/%.*$/, '');
  return Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === bare));
}

/** host:port for people and logs; IPv6 in brackets. */
export const hostPort = (host: string, port: number): string => `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;

/** The addresses to listen on for a setting like dimse.host: one, or several with commas ("127.0.0.1,::1"). */
export const listenHosts = (hosts: string): string[] =>
  hosts
    .split(',')
    .map((host) => host.trim())
    .filter((host) => host !== '');
