//! Filters of events: `sig >= 10 && (comm != "bash" || !pid)`.

use super::fields::{Field, Fields, Found};
use crate::functions::Functions;
use crate::glob::Pattern;
use crate::words::parse_number;

/// What is wrong with a filter, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterError {
    pub(crate) error: &'static str,
    pub(crate) at: usize,
}

/// A filter, with the text by which it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) text: String,
    root: Expression,
}

#[derive(Clone, Debug)]
enum Expression {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Number(Field, Operator, i128),
    Text(Field, bool, Pattern),
    /// An address in a function.
    Function(Field, bool, std::ops::Range<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
}

/// The longest filter and the deepest nesting.
const MOST: usize = 4096;
const DEEPEST: usize = 64;

impl Filter {
    /// Reads a filter over fields.
    pub(crate) fn parse(
        text: &str,
        fields: &Fields<'_>,
        functions: &Functions,
    ) -> Result<Self, FilterError> {
        if text.len() > MOST {
            return Err(FilterError { error: "Operand too long", at: 0 });
        }
        let mut parser = Parser { text, at: 0, depth: 0, fields, functions };
        let root = parser.any()?;
        parser.space();
        if parser.at < text.len() {
            let closes = parser.rest().starts_with(')');
            let error = if closes { "Too few '('" } else { "Invalid operator" };
            return Err(parser.error(error));
        }
        Ok(Self { text: text.trim().to_owned(), root })
    }

    /// Whether an event passes.
    pub(crate) fn passes(&self, find: &dyn Fn(Field) -> Found) -> bool {
        self.root.holds(find)
    }
}

impl Expression {
    fn holds(&self, find: &dyn Fn(Field) -> Found) -> bool {
        match self {
            Self::All(all) => all.iter().all(|it| it.holds(find)),
            Self::Any(any) => any.iter().any(|it| it.holds(find)),
            Self::Not(it) => !it.holds(find),
            Self::Number(field, operator, value) => match find(*field) {
                Found::Number(number) => operator.holds(number, *value),
                _ => false,
            },
            Self::Text(field, wanted, pattern) => match find(*field) {
                Found::Text(text) => pattern.matches(&text) == *wanted,
                _ => false,
            },
            Self::Function(field, wanted, range) => match find(*field) {
                Found::Number(address) => {
                    u64::try_from(address).is_ok_and(|it| range.contains(&it)) == *wanted
                }
                _ => false,
            },
        }
    }
}

impl Operator {
    const ALL: [(&'static str, Self); 7] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::LessEqual),
        (">=", Self::GreaterEqual),
        ("<", Self::Less),
        (">", Self::Greater),
        ("&", Self::And),
    ];

    const fn holds(self, one: i128, other: i128) -> bool {
        match self {
            Self::Equal => one == other,
            Self::NotEqual => one != other,
            Self::Less => one < other,
            Self::LessEqual => one <= other,
            Self::Greater => one > other,
            Self::GreaterEqual => one >= other,
            Self::And => one & other != 0,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    fields: &'a Fields<'a>,
    functions: &'a Functions,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, error: &'static str) -> FilterError {
        FilterError { error, at: self.at }
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.space();
        let there = self.rest().starts_with(token);
        self.at += if there { token.len() } else { 0 };
        there
    }

    fn any(&mut self) -> Result<Expression, FilterError> {
        let mut list = vec![self.all()?];
        while self.take("||") {
            list.push(self.all()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expression::Any(list) })
    }

    fn all(&mut self) -> Result<Expression, FilterError> {
        let mut list = vec![self.one()?];
        while self.take("&&") {
            list.push(self.one()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Expression::All(list) })
    }

    fn one(&mut self) -> Result<Expression, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("Too many terms in predicate expression"));
        }
        let result = if self.take("!") {
            self.one().map(|it| Expression::Not(Box::new(it)))
        } else if self.take("(") {
            let inner = self.any()?;
            if self.take(")") { Ok(inner) } else { Err(self.error("Too many '('")) }
        } else {
            self.predicate()
        };
        self.depth -= 1;
        result
    }

    fn predicate(&mut self) -> Result<Expression, FilterError> {
        self.space();
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..length];
        if name.is_empty() {
            let end = rest.is_empty();
            return Err(self.error(if end { "No filter found" } else { "Invalid filter" }));
        }
        self.at += length;
        let of_function = self.take(".function");
        self.space();
        let field = self.fields.named(name).ok_or_else(|| self.error("Field not found"))?;
        let glob = self.take("~");
        let operator = match glob {
            true => Operator::Equal,
            false => {
                let found = Operator::ALL.iter().find(|(text, _)| self.rest().starts_with(text));
                let (text, operator) = found.ok_or_else(|| self.error("Invalid operator"))?;
                self.at += text.len();
                *operator
            }
        };
        self.space();
        if of_function {
            return self.function(field, operator);
        }
        if self.fields.is_text(field) {
            self.words(field, operator, glob)
        } else {
            self.number(field, operator, glob)
        }
    }

    fn function(&mut self, field: Field, operator: Operator) -> Result<Expression, FilterError> {
        if !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(self.error("Illegal operation for field type"));
        }
        let rest = self.rest();
        let length = rest.find(|c: char| c.is_whitespace() || "()&|".contains(c));
        let word = &rest[..length.unwrap_or(rest.len())];
        let id = match parse_number(word) {
            Some(address) => self.functions.at(address),
            None => self.functions.named(word).first().copied(),
        };
        let found = id.and_then(|id| self.functions.get(id));
        let found = found.ok_or_else(|| self.error("Function not found"))?;
        self.at += word.len();
        let range = found.address..found.address + found.size;
        Ok(Expression::Function(field, operator == Operator::Equal, range))
    }

    fn words(
        &mut self,
        field: Field,
        operator: Operator,
        glob: bool,
    ) -> Result<Expression, FilterError> {
        if !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(self.error("Illegal operation for field type"));
        }
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (word, length) = match quote {
            Some(quote) => {
                let end = rest[1..].find(quote);
                let end = end.ok_or_else(|| self.error("Missing matching quote"))?;
                (&rest[1..=end], end + 2)
            }
            None => {
                let plain = |c: char| !c.is_alphanumeric() && !"_-./*?[]".contains(c);
                let length = rest.find(plain).unwrap_or(rest.len());
                (&rest[..length], length)
            }
        };
        if length == 0 {
            return Err(self.error("Invalid value (did you forget quotes)?"));
        }
        self.at += length;
        let escaped: String = word.chars().flat_map(|c| escape(c, glob)).collect();
        Ok(Expression::Text(field, operator == Operator::Equal, Pattern::new(&escaped)))
    }

    fn number(
        &mut self,
        field: Field,
        operator: Operator,
        glob: bool,
    ) -> Result<Expression, FilterError> {
        if glob {
            return Err(self.error("Illegal operation for field type"));
        }
        let (rest, negative) = (self.rest(), self.take("-"));
        let digits = rest.strip_prefix('-').unwrap_or(rest);
        let length = digits.find(|c: char| !c.is_alphanumeric()).unwrap_or(digits.len());
        let number = parse_number(&digits[..length]);
        let number = i128::from(number.ok_or_else(|| self.error("Expecting numeric field"))?);
        self.at += length;
        Ok(Expression::Number(field, operator, if negative { -number } else { number }))
    }
}

/// Where no glob is meant, its characters stand for themselves.
fn escape(c: char, glob: bool) -> Vec<char> {
    if !glob && "*?[]\\".contains(c) { vec!['\\', c] } else { vec![c] }
}
