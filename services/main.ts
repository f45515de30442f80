import { runProcess } from '#platform/process.ts';
import { loadRole, ROLES } from './roles.ts';

// node services/main.ts <role>: start a role. The table is roles.ts; settings are in SETTINGS.md.
const [role = 'all', ...rest] = process.argv.slice(2);
const row = Object.hasOwn(ROLES, role) ? ROLES[role as keyof typeof ROLES] : undefined;
if (!row || rest.length > 0) {
  process.stderr.write(
    `usage: node services/main.ts [role]\n\nRoles:\n${Object.entries(ROLES)
      .map(([name, { doc }]) => `  ${name.padEnd(10)}${doc}\n`)
      .join('')}`,
  );
  process.exit(64);
}
const { modules, others } = await loadRole(role as keyof typeof ROLES);
await runProcess(role, modules, others, row.needs);
