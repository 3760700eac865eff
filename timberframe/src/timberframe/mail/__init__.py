"""Mail: messages from templates, sent over SMTP or written to a folder."""

from timberframe.mail.messages import MailTemplates
from timberframe.mail.options import MailOptions
from timberframe.mail.sending import MailNotSent, send

__all__ = ["MailNotSent", "MailOptions", "MailTemplates", "send"]
