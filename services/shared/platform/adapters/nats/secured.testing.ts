import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nkeys } from '@nats-io/transport-node';

/** Test support: certificates and accounts for a NATS server that asks for them, as an operator would make them with openssl and nsc. */
export interface Certified {
  /** PEM files. */
  readonly certificate: string;
  readonly key: string;
}

/** An authority of its own, in `folder`; what it issues is good for localhost and 127.0.0.1. */
export function makeAuthority(folder: string, name: string): { ca: string; issue(subject: string): Certified } {
  const openssl = (...args: string[]) => void execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const files = (subject: string) => ({
    certificate: join(folder, `${subject}.pem`),
    key: join(folder, `${subject}.key`),
  });
  const request = ({ key }: Certified, subject: string) => [
    'req',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    key,
    '-subj',
    `/CN=${subject}`,
  ];
  const own = files(name);
  openssl(...request(own, name), '-x509', '-days', '2', '-out', own.certificate);
  return {
    ca: own.certificate,
    issue(subject) {
      const made = files(subject);
      const signing = join(folder, `${subject}.csr`);
      openssl(...request(made, subject), '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-out', signing);
      openssl(
        ...['x509', '-req', '-in', signing, '-CA', own.certificate, '-CAkey', own.key, '-days', '2'],
        ...['-copy_extensions', 'copy', '-out', made.certificate],
      );
      return made;
    },
  };
}

type KeyPair = ReturnType<typeof nkeys.createUser>;

/** nats-server's JWTs (github.com/nats-io/jwt, version 2): claims signed with the issuer's nkey. */
function sign(issuer: KeyPair, subject: KeyPair, type: string, claims: Record<string, unknown>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = {
    ...{ jti: randomBytes(16).toString('hex'), iat: Math.floor(Date.now() / 1000), name: type },
    ...{ iss: issuer.getPublicKey(), sub: subject.getPublicKey(), nats: { ...claims, type, version: 2 } },
  };
  const signed = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(body)}`;
  return `${signed}.${Buffer.from(issuer.sign(Buffer.from(signed))).toString('base64url')}`;
}

/** An operator with one account that may use JetStream: lines for the server, and files of credentials as nsc writes them. */
export function makeOperator(folder: string): { config: string[]; user(name: string): string } {
  const [operator, system, account] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createAccount()];
  const unlimited = (...names: string[]) => Object.fromEntries(names.map((name) => [name, -1]));
  const basic = {
    ...unlimited('subs', 'data', 'payload', 'imports', 'exports', 'conn', 'leaf'),
    wildcards: true,
  };
  const streams = unlimited('mem_storage', 'disk_storage', 'streams', 'consumer');
  const jwts = [
    [system, sign(operator, system, 'account', { limits: basic })], // not allowed JetStream: the server wants it so
    [account, sign(operator, account, 'account', { limits: { ...basic, ...streams } })],
  ] as const;
  return {
    config: [
      `operator: ${sign(operator, operator, 'operator', { system_account: system.getPublicKey() })}`,
      `system_account: ${system.getPublicKey()}`,
      'resolver: MEMORY',
      `resolver_preload: { ${jwts.map(([pair, jwt]) => `${pair.getPublicKey()}: ${jwt}`).join(', ')} }`,
    ],
    user(name) {
      const user = nkeys.createUser();
      const jwt = sign(account, user, 'user', { subs: -1, data: -1, payload: -1 });
      const seed = Buffer.from(user.getSeed()).toString();
      const file = join(folder, `${name}.creds`);
      writeFileSync(
        file,
        `-----BEGIN NATS USER JWT-----\n${jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`,
        { mode: 0o600 },
      );
      return file;
    },
  };
}
