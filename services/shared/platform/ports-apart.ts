import type { SettingsTable } from './module.ts';
import { isLoopback, listenHosts } from './net.ts';
import { environmentName, type LiveSettings } from './setting-values.ts';

/** Every port that a process may listen on, with the setting that says on which addresses. */
const PORTS = {
  'http.port': 'http.host',
  'dimse.port': 'dimse.host',
  'platform.grpcPort': 'platform.internalHost',
  'platform.bulkPort': 'platform.internalHost',
  'platform.healthPort': 'platform.healthHost',
} as const;

/**
 * Two doors on one port: the second could not open, and would ask whether another Gantry runs; with platform.reusePort both would, and the
 * kernel would hand each the other's connections. 0 is a port that the kernel chooses, or no door.
 */
export function checkPortsApart(settings: LiveSettings): string[] {
  const { table } = settings;
  const doors = Object.entries(PORTS)
    .filter(([key, host]) => Object.hasOwn(table, key) && Object.hasOwn(table, host) && settings.number(key) > 0)
    .map(([key, host]) => ({ key, port: settings.number(key), hosts: listenHosts(settings.string(host)) }));
  return doors.flatMap((one, at) =>
    doors
      .slice(at + 1)
      .filter((other) => other.port === one.port && meet(one.hosts, other.hosts))
      .map(
        (other) =>
          `${one.key} and ${other.key} are both ${one.port}: each needs a port of its own. Set one of them to another (${said(table, one.key)} or ${said(table, other.key)} in the environment).`,
      ),
  );
}

const said = (table: SettingsTable, key: string): string => environmentName(key, table[key]!);

const WILDCARDS = ['0.0.0.0', '::'];
const meet = (some: readonly string[], others: readonly string[]): boolean =>
  some.some((one) =>
    others.some(
      (other) =>
        one === other ||
        WILDCARDS.includes(one) ||
        WILDCARDS.includes(other) ||
        (one === 'localhost' && isLoopback(other)) ||
        (other === 'localhost' && isLoopback(one)),
    ),
  );
