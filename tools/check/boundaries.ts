// Who may know whom (services/ARCHITECTURE.md): the rules about imports.
import type { Offence, Rule } from './rules.ts';
import { blank, type Import, importsOf, lineAt, type SourceFile } from './source.ts';

const isCode = (path: string) =>
  path.startsWith('services/') && path.endsWith('.ts') && !path.startsWith('services/web/');
/** Tests and what only tests use: `x.test.ts`, `x.testing.ts`, contracts, fixtures, `test-kit.ts`, folders called testing. */
const isTest = (path: string) => /\.(test|testing|contract|fixture)\.ts$|\/test-kit\.ts$|\/testing\//.test(path);
const isProduct = (file: SourceFile) => isCode(file.path) && !isTest(file.path);

/** `gateway` for services/gateway/http/x.ts; nothing for services/main.ts and services/shared. */
function moduleOf(path: string): string | undefined {
  const [top, name, ...rest] = path.split('/');
  return top === 'services' && rest.length > 0 && name !== 'shared' ? name : undefined;
}

/** A rule that judges one import at a time. */
function importRule(
  name: string,
  looksAt: Rule['looksAt'],
  says: (file: SourceFile, found: Import) => string | undefined,
): Rule {
  return {
    name,
    looksAt,
    offences: (files) =>
      files.flatMap((file) =>
        importsOf(file).flatMap((found): Offence[] => {
          const offence = says(file, found);
          return offence === undefined ? [] : [{ path: file.path, line: found.line, says: offence }];
        }),
      ),
  };
}

/**
 * The packages that the product runs on, and the only places that may import each. A vendor's SDK stays behind its adapter;
 * a new dependency gets a row here, with its reason in the commit.
 */
export const PACKAGES: [name: RegExp, where: RegExp, why: string][] = [
  [/^@grpc\//, /^services\/shared\/platform\//, 'gRPC lives in shared/platform: modules call ctx.client()'],
  [
    /^@opentelemetry\//,
    /^services\/shared\/platform\//,
    'OpenTelemetry lives in shared/platform: modules count with its metrics',
  ],
  [/^pino(-|$)/, /^services\/shared\/platform\//, 'logs go through ctx.log'],
  [/^ulid$/, /^services\//, ''],
  [/^yaml$/, /^services\/shared\/platform\//, 'settings are read by shared/platform'],
  [/^@bufbuild\/protobuf/, /^services\//, ''],
  [/^(fastify|@fastify\/.*)$/, /^services\/gateway\/http\//, 'HTTP is spoken by gateway/http only'],
  [/^yazl$/, /^services\/gateway\/http\//, 'zip answers are gateway/http’s'],
  [
    /^(minio|@aws-sdk\/.*|@elastic\/.*|@nats-io\/.*)$/,
    /\/adapters\/|^services\/shared\/platform\//,
    'a vendor SDK stays in an adapters folder',
  ],
];

/** The closed list of errors, which everybody speaks; it imports nothing. */
const ERRORS = 'services/shared/platform/errors.ts';

/** Modules of node that do I/O: shared/dicom is bytes in, values out. */
const IO =
  /^node:(fs|net|tls|https?|http2|dgram|dns|child_process|worker_threads|cluster|sqlite|readline|process)(\/|$)/;

export const boundaries: Rule[] = [
  importRule(
    'a module imports no other module',
    (file) => isCode(file.path) && moduleOf(file.path) !== undefined,
    (file, found) => {
      const [own, other] = [moduleOf(file.path), found.path && moduleOf(found.path)];
      if (other !== undefined && other !== own)
        return `${own} imports ${found.specifier} of ${other}: only its proto client`;
      // The table of roles knows every module: a module that imports it would know them too.
      if (found.path !== undefined && /^services\/(main|roles)\.ts$/.test(found.path) && !isTest(file.path))
        return `imports ${found.specifier}`;
      return undefined;
    },
  ),
  importRule(
    'shared imports no module, and dicom is below dimse is below platform',
    (file) => isCode(file.path) && file.path.startsWith('services/shared/'),
    (file, found) => {
      if (found.path === undefined) return undefined;
      if (moduleOf(found.path) !== undefined) return `shared code imports ${found.specifier} of a module`;
      const part = file.path.split('/')[2]!;
      const below: Record<string, string[]> = { dicom: ['dicom'], dimse: ['dicom', 'dimse'] };
      const allowed = below[part]?.map((name) => `services/shared/${name}/`);
      if (
        allowed &&
        !isTest(file.path) &&
        !allowed.some((folder) => found.path!.startsWith(folder)) &&
        found.path !== ERRORS
      ) {
        return `shared/${part} imports ${found.specifier}`;
      }
      return undefined;
    },
  ),
  importRule(
    'shared/dicom does no I/O',
    (file) => isProduct(file) && file.path.startsWith('services/shared/dicom/'),
    (_, found) => (IO.test(found.specifier) ? `imports ${found.specifier}: bytes in, values out` : undefined),
  ),
  importRule('every package has its place', isProduct, (file, found) => {
    if (found.path !== undefined || found.specifier.startsWith('node:')) return undefined;
    const row = PACKAGES.find(([name]) => name.test(found.specifier));
    if (row === undefined) return `imports ${found.specifier}, which is no package of tools/check/boundaries.ts`;
    return row[1].test(file.path) ? undefined : `imports ${found.specifier}: ${row[2]}`;
  }),
  importRule('node:sqlite stays in adapters', isProduct, (file, found) =>
    found.specifier === 'node:sqlite' && !/\/adapters\/|^services\/shared\/platform\//.test(file.path)
      ? 'imports node:sqlite'
      : undefined,
  ),
  {
    name: 'process.env is read in shared/platform only',
    looksAt: (file) => isProduct(file) && !file.path.startsWith('services/shared/platform/'),
    offences: (files) =>
      files.flatMap(({ path, text }) => {
        const code = blank(text, { strings: true });
        const pattern = /\bprocess\s*(?:\.\s*env\b|\[\s*['"`]env)|\benv\b[^;'"]*\bfrom\s*['"](?:node:)?process['"]/g;
        return [...blank(text, { strings: false }).matchAll(pattern)]
          .filter((match) => code[match.index] === text[match.index])
          .map((match) => ({
            path,
            line: lineAt(code, match.index),
            says: 'reads the environment: make it a setting',
          }));
      }),
  },
  {
    // Which roles there are is decided by services/roles.ts alone: the same module runs alone, beside others, or twice.
    name: 'no module reads its role',
    looksAt: (file) =>
      isProduct(file) && moduleOf(file.path) !== undefined && !/\/fixtures\/|\.run\.ts$/.test(file.path),
    offences: (files) =>
      files.flatMap(({ path, text }) => {
        const code = blank(text, { strings: true });
        const pattern =
          /\bprocess\s*(?:\.\s*argv\b|\[\s*['"`]argv)|\bargv\b[^;'"]*\bfrom\s*['"](?:node:)?process['"]|\b(?:context|ctx)\s*\.\s*role\b/g;
        return [...blank(text, { strings: false }).matchAll(pattern)]
          .filter((match) => code[match.index] === text[match.index])
          .map((match) => ({ path, line: lineAt(code, match.index), says: 'reads which role it runs in' }));
      }),
  },
];
