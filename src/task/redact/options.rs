//! Short options that take a password. The meaning of an option depends on the program: `-p` is a password for `sshpass`, a
//! port for `ssh`, and takes a path for `mkdir`.

/// The options of one program that are passwords.
struct Program {
    /// The name, or the beginning of the name if it ends in `*`.
    name: &'static str,
    /// The letters of options whose value is the next argument, or the rest of the same one.
    letters: &'static str,
    /// The letters of options whose value can only be the rest of the same argument.
    attached: &'static str,
}

const PROGRAMS: [Program; 17] = [
    Program { name: "sshpass", letters: "p", attached: "" },
    Program { name: "mysql*", letters: "", attached: "p" },
    Program { name: "mariadb*", letters: "", attached: "p" },
    Program { name: "mongo*", letters: "p", attached: "" },
    Program { name: "7z", letters: "", attached: "p" },
    Program { name: "7za", letters: "", attached: "p" },
    Program { name: "7zz", letters: "", attached: "p" },
    Program { name: "zip", letters: "P", attached: "" },
    Program { name: "unzip", letters: "P", attached: "" },
    Program { name: "sqlcmd", letters: "P", attached: "" },
    Program { name: "bcp", letters: "P", attached: "" },
    Program { name: "redis-cli", letters: "a", attached: "" },
    Program { name: "valkey-cli", letters: "a", attached: "" },
    Program { name: "ldap*", letters: "w", attached: "" },
    Program { name: "mosquitto_*", letters: "P", attached: "" },
    Program { name: "smtp-cli", letters: "p", attached: "" },
    // `docker login`, `az login`, `oc login`, `helm registry login`.
    Program { name: "login", letters: "p", attached: "" },
];

/// The state of a pass over one command line.
#[derive(Debug, Default)]
pub(super) struct Command {
    letters: Letters,
    attached: Letters,
    curl: bool,
    /// An option such as `-u` was the last argument: the next one is its value, unless it is an option.
    expects_user: bool,
    /// The command names a user, so that `-p` and `-P` probably take the password.
    has_user: bool,
}

/// A set of ASCII letters.
#[derive(Debug, Default)]
struct Letters(u64);

impl Letters {
    fn add(&mut self, letters: &str) {
        self.0 |= letters.bytes().fold(0, |set, letter| set | 1 << (letter & 63));
    }

    const fn contains(&self, letter: u8) -> bool {
        self.0 & (1 << (letter & 63)) != 0
    }
}

/// What an argument says about a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The value is a password.
    Password,
    /// The value is a password, unless it looks like a port or an address.
    PasswordOrPort,
    /// The value is `user:password` if there is a colon in it.
    UserAndPassword,
}

impl Command {
    /// Notes one argument, or the program's name.
    pub(super) fn add(&mut self, arg: &str) {
        if std::mem::take(&mut self.expects_user) && !arg.starts_with('-') {
            self.has_user = true;
        }
        if arg.starts_with('-') {
            self.expects_user = is_user_option(arg);
            self.has_user |=
                ["-u", "-U"].iter().any(|user| arg.strip_prefix(user).is_some_and(|name| name.len() > 1));
            return;
        }
        let name = arg.rsplit('/').next().unwrap_or(arg);
        self.curl |= name == "curl";
        for program in &PROGRAMS {
            let is_it = match program.name.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == program.name,
            };
            if is_it {
                self.letters.add(program.letters);
                self.attached.add(program.attached);
            }
        }
    }

    /// The meaning of the argument after the option `arg`.
    pub(super) fn next(&self, arg: &str) -> Option<Meaning> {
        if is_user_option(arg) || (self.curl && user_of_curl(arg) == Some(arg.len())) {
            return Some(Meaning::UserAndPassword);
        }
        let letter = letter(arg).filter(|_| arg.len() == 2)?;
        if self.letters.contains(letter) {
            Some(Meaning::Password)
        } else {
            (self.has_user && matches!(letter, b'p' | b'P')).then_some(Meaning::PasswordOrPort)
        }
    }

    /// Where in `arg` a value may begin that is part of it, and its meaning.
    pub(super) fn rest_of(&self, arg: &str) -> Option<(usize, Meaning)> {
        let letter = letter(arg)?;
        if self.letters.contains(letter) || self.attached.contains(letter) {
            return Some((2, Meaning::Password));
        }
        let start = user_of_curl(arg).filter(|_| self.curl)?;
        Some((start, Meaning::UserAndPassword))
    }
}

impl Meaning {
    /// Whether `value` is a secret.
    pub(super) fn hides(self, value: &str) -> bool {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Password => true,
            Self::PasswordOrPort => {
                let bare = ["/tcp", "/udp"].iter().find_map(|end| value.strip_suffix(end)).unwrap_or(value);
                !bare.bytes().all(|byte| byte.is_ascii_digit() || b".:-[]".contains(&byte))
            }
            Self::UserAndPassword => value.split_once([':', '%']).is_some_and(|(user, password)| {
                let is_url = password.starts_with("//");
                // A user and a group by number.
                let is_group = is_number(user) && is_number(password);
                !password.is_empty() && !is_url && !is_group
            }),
        }
    }
}

fn is_user_option(arg: &str) -> bool {
    matches!(arg, "-u" | "-U" | "--user" | "--username" | "--proxy-user")
}

/// Where the value begins of `-u` or `-U` among the short options of `curl` in one argument, such as `-sSu`.
fn user_of_curl(arg: &str) -> Option<usize> {
    // Without a value, so that more letters may follow.
    const FLAGS: &str = "012346aBfgGiIjJklLMnNOpqRsSvVZ";
    let letters = arg.strip_prefix('-')?;
    let at = letters.find(|letter| !FLAGS.contains(letter))?;
    letters[at..].starts_with(['u', 'U']).then_some(at + 2)
}

/// The letter of a short option.
fn letter(arg: &str) -> Option<u8> {
    let mut bytes = arg.strip_prefix('-')?.bytes();
    bytes.next().filter(u8::is_ascii_alphabetic)
}
